import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { SecondDoor } from "../../sessions_app/frontend/second-door";

interface Request {
  url: string;
  init: RequestInit;
  answer: (response: Response) => void;
  fail: (error: Error) => void;
}

function intercept(context: TestContext): Request[] {
  const requests: Request[] = [];
  context.mock.method(
    globalThis,
    "fetch",
    (url: string, init: RequestInit) =>
      new Promise<Response>((answer, fail) => requests.push({ url, init, answer, fail })),
  );
  return requests;
}

const json = (value: unknown, status = 200) => new Response(JSON.stringify(value), { status });

test("frames go to their session, with the token that proves whose page it is", async (context) => {
  const [requests, door] = [intercept(context), new SecondDoor("/sessions/", "token")];
  const answer = door.post("session-1", '{"frames":[]}');
  assert.equal(requests[0]?.url, "/sessions/session-1/events/");
  const { method, headers, body, keepalive } = requests[0]?.init ?? {};
  assert.deepEqual([method, body, keepalive], ["POST", '{"frames":[]}', false]);
  assert.equal(new Headers(headers).get("X-CSRFToken"), "token");
  requests[0]?.answer(json({ ack: 7 }));
  assert.deepEqual(await answer, { code: undefined, ack: 7 });
});

test("a refusal is given with its code, and with the log's last number if it is told", async (context) => {
  const [requests, door] = [intercept(context), new SecondDoor("/sessions/", "token")];
  const answer = door.post("session-1", "{}");
  requests[0]?.answer(json({ error: { code: "gap", message: "…" }, ack: 3 }, 409));
  assert.deepEqual(await answer, { code: "gap", ack: 3 });
});

test("an answer that is not the site's is none", async (context) => {
  const [requests, door] = [intercept(context), new SecondDoor("/sessions/", "token")];
  const answer = door.post("session-1", "{}");
  requests[0]?.answer(new Response("<h1>Bad gateway</h1>", { status: 502 }));
  await assert.rejects(answer);
});

test("what may outlive the page shares one allowance, given back when a request is over", async (context) => {
  const [requests, door] = [intercept(context), new SecondDoor("/sessions/", "token")];
  const all = door.room;
  assert.ok(all < 64 * 1024);
  const first = door.post("session-1", "é".repeat(10_000), { outlivesPage: true });
  const second = door.post("session-2", "a".repeat(5_000), { outlivesPage: true });
  void door.post("session-3", "a".repeat(50_000));
  assert.deepEqual(
    requests.map(({ init }) => init.keepalive),
    [true, true, false],
  );
  assert.equal(door.room, all - 25_000);
  requests[0]?.answer(json({ ack: 1 }));
  await first;
  requests[1]?.fail(new TypeError("Failed to fetch"));
  await assert.rejects(second);
  assert.equal(door.room, all);
});
