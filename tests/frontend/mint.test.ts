import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { mint } from "../../sessions_app/frontend/mint";
import { CallFailure } from "../../sessions_app/frontend/situations";

/** Mints at a site that gives this answer; resolves with the credential or the failure's code. */
async function mintAt(status: number, body: string): Promise<{ result: unknown; request: unknown }> {
  let request: unknown;
  const server = createServer(async (incoming, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) chunks.push(chunk);
    const { method, headers } = incoming;
    request = { method, token: headers["x-csrftoken"], body: JSON.parse(Buffer.concat(chunks).toString()) };
    response.writeHead(status).end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  try {
    const result = await mint(`http://127.0.0.1:${port}/sessions/`, "csrf", {
      agent_id: "agent-1",
      consent: "v1",
    }).catch(codeOf);
    return { result, request };
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

function codeOf(error: unknown): unknown {
  if (!(error instanceof CallFailure)) return error;
  return error.sentence ? [error.code, error.sentence] : error.code;
}

test("a credential is asked for with the page's token, for the chosen agent", async () => {
  const { result, request } = await mintAt(201, '{"session":"s"}');
  assert.deepEqual(result, { session: "s" });
  assert.deepEqual(request, { method: "POST", token: "csrf", body: { agent_id: "agent-1", consent: "v1" } });
});

test("the site's own code and sentence say why there is none", async () => {
  const { result } = await mintAt(503, '{"error":{"code":"platform_busy","message":"No room."}}');
  assert.deepEqual(result, ["platform_busy", "No room."]);
});

test("what is wrong with the page's request is not the visitor's to read", async () => {
  const { result } = await mintAt(
    400,
    '{"error":{"code":"bad_request","message":"agent_id must be a UUID."}}',
  );
  assert.equal(result, "bad_request");
});

test("codes that are not the site's to tell are none of its answers", async () => {
  assert.equal(
    (await mintAt(500, '{"error":{"code":"media_lost","message":"…"}}')).result,
    "site_unreachable",
  );
  assert.equal((await mintAt(503, '{"error":{"code":"platform_busy"}}')).result, "site_unreachable");
});

test("an answer that is not the site's, and no answer, are the site's absence", async () => {
  assert.equal((await mintAt(502, "<html>Bad gateway</html>")).result, "site_unreachable");
  assert.equal((await mintAt(500, '{"error":{"code":"toString"}}')).result, "site_unreachable");
  assert.equal((await mintAt(500, "null")).result, "site_unreachable");
  assert.equal(
    await mint("http://127.0.0.1:9/sessions/", "csrf", { agent_id: "agent-1" }).catch(codeOf),
    "site_unreachable",
  );
});
