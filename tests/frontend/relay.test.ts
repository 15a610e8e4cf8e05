import assert from "node:assert/strict";
import { test } from "node:test";
import { Relay } from "../../sessions_app/frontend/relay";
import { type PostFrames, postLeftovers, Unsent } from "../../sessions_app/frontend/unsent";
import { FakeClock, FakeLog, FakeStorage, settled } from "./fakes";

const SESSION = "9a8f0c1e-0000-4000-8000-000000000001";

function setUp() {
  const clock = new FakeClock();
  const log = new FakeLog();
  const storage = new FakeStorage();
  const outputs: [string, string][] = [];
  const posts: { frames: { seq: number }[]; bytes: number; keepalive: boolean }[] = [];
  let refuses = false;
  const refusePosts = () => {
    refuses = true;
  };
  /** The POST ends in the same log. */
  const post: PostFrames = async (session, body, { keepalive }) => {
    if (refuses) return { code: "csrf_failed" };
    assert.equal(session, SESSION);
    const { frames } = JSON.parse(body);
    posts.push({ frames, bytes: new TextEncoder().encode(body).length, keepalive });
    for (const frame of frames) if (frame.seq === log.ack + 1) log.rows.push(frame);
    return { ack: log.ack };
  };
  const relay = new Relay({
    clock,
    openSocket: log.openSocket,
    unsent: new Unsent(SESSION, storage, post),
    onToolOutput: (id, output) => outputs.push([id, output]),
    random: () => 1,
  });
  const record = (...types: string[]) => {
    for (const type of types) relay.record({ at_ms: 0, type, data: {} });
  };
  const logged = () => log.rows.map(({ type }) => type);
  return { clock, log, storage, outputs, posts, post, relay, record, logged, refusePosts };
}

test("what is recorded before the socket is open arrives, numbered from 1, and then nothing is kept", () => {
  const { log, storage, record, logged } = setUp();
  record("connected", "session_started");
  assert.equal(storage.length, 1);
  log.accept();
  record("speech_started");
  assert.deepEqual(logged(), ["connected", "session_started", "speech_started"]);
  assert.deepEqual(
    log.rows.map(({ seq }) => seq),
    [1, 2, 3],
  );
  assert.equal(storage.length, 0);
});

test("after a cut, what was not stored is sent again: each once, in order", async () => {
  const { clock, log, record, logged } = setUp();
  log.accept();
  record("a", "b");
  log.isAnswering = false; // stored, but the acks are lost with the line
  record("c", "d");
  log.socket.drop(1006);
  record("e");
  log.isAnswering = true;
  await clock.pass(500);
  assert.equal(log.sockets.length, 2);
  log.accept();
  record("f");
  assert.deepEqual(logged(), ["a", "b", "c", "d", "e", "f"]);
  assert.equal(log.repeats, 0, "the welcome says what is stored, so that nothing goes twice");
});

test("while the server stays away the relay tries again, ever slower, and at once when the network is back", async () => {
  const { clock, log, relay, record, logged } = setUp();
  record("a");
  for (const wait of [500, 1000, 2000]) {
    log.socket.drop(1006);
    const before = log.sockets.length;
    await clock.pass(wait - 1);
    assert.equal(log.sockets.length, before);
    await clock.pass(1);
    assert.equal(log.sockets.length, before + 1);
  }
  log.socket.drop(1006);
  relay.reconnectNow();
  log.accept();
  assert.deepEqual(logged(), ["a"]);
});

test("a line that has gone silent is given up for a new one", async () => {
  const { clock, log, record, logged } = setUp();
  log.accept();
  log.isAnswering = false;
  record("a");
  await clock.pass(15_000);
  log.isAnswering = true;
  await clock.pass(500);
  log.accept();
  assert.deepEqual(logged(), ["a"]);
  assert.equal(log.sockets[0]?.readyState, 3);
});

test("a socket that never says welcome is given up for a new one", async () => {
  const { clock, log, record, logged } = setUp();
  record("a");
  await clock.pass(15_500);
  assert.equal(log.sockets.length, 2);
  log.accept();
  assert.deepEqual(logged(), ["a"]);
});

test("a quiet line is kept, and pinged so that proxies keep it too", async () => {
  const { clock, log, record } = setUp();
  const socket = log.accept();
  record("a");
  await clock.pass(65_000);
  assert.equal(log.sockets.length, 1);
  assert.deepEqual(
    socket.sent.map(({ type }) => type),
    ["a", "ping", "ping", "ping"],
  );
});

test("a refused event does not hold up the next ones", (t) => {
  const warn = t.mock.method(console, "warn", () => undefined);
  const { log, storage, record, logged } = setUp();
  log.refuses.add(2);
  log.accept();
  record("a", "b", "c");
  assert.deepEqual(logged(), ["a", "rejected", "c"]);
  assert.equal(storage.length, 0);
  assert.equal(warn.mock.callCount(), 1);
});

test("an event too large for the log is replaced by a note of its size, and the next one arrives", () => {
  const { log, relay, record } = setUp();
  log.accept();
  relay.record({ at_ms: 0, type: "response_text", data: { text: "ä".repeat(40_000) } });
  record("b");
  assert.equal(log.rows.length, 2);
  assert.ok(JSON.stringify(log.rows[0]).length < 1000);
});

test("at most 256 events are under way without an ack", () => {
  const { log, record } = setUp();
  log.isAnswering = false;
  const socket = log.accept();
  record(...Array(300).fill("a"));
  assert.equal(socket.sent.length, 256);
  log.isAnswering = true;
  socket.tell({ type: "ack", ack: log.ack });
  assert.equal(log.rows.length, 300);
});

test("changing captions go out at most five times a second for each turn, and never wait", async () => {
  const { clock, log, relay } = setUp();
  const interim = (turn_id: string, text: string) =>
    relay.interim({ at_ms: 0, type: "response_text", data: { text, turn_id, is_final: false } });
  interim("agent-1", "before the socket is open");
  log.accept();
  interim("agent-1", "one");
  interim("agent-1", "two");
  interim("agent-2", "other");
  await clock.pass(200);
  interim("agent-1", "three");
  assert.deepEqual(
    log.interims.map(({ data }) => (data as { text: string }).text),
    ["one", "other", "three"],
  );
});

test("the output of a server tool is handed up once, however often the server repeats it", async () => {
  const { clock, log, outputs } = setUp();
  const answer = { type: "tool_call_output", data: { toolCallId: "call-1", output: '{"city":"Rome"}' } };
  log.accept().tell(answer);
  log.socket.tell(answer);
  log.socket.drop(1006);
  await clock.pass(500);
  log.accept().tell(answer);
  assert.deepEqual(outputs, [["call-1", '{"city":"Rome"}']]);
});

test("after the end the relay stays until all is stored, then closes", async () => {
  const { clock, log, relay, record, logged } = setUp();
  log.accept();
  log.socket.drop(1006);
  record("hang_up");
  relay.finish();
  await clock.pass(500);
  const socket = log.accept();
  assert.deepEqual(logged(), ["hang_up"]);
  assert.equal(socket.readyState, 3);
  await clock.pass(100_000);
  assert.equal(log.sockets.length, 2, "it does not come back");
});

test("after the end the relay does not try for ever; the next page load has the rest", async () => {
  const { clock, log, storage, relay, record, post, logged } = setUp();
  record("hang_up");
  relay.finish();
  for (let i = 0; i < 100; i += 1) {
    log.socket.drop(1006);
    await clock.pass(2_000);
  }
  const tries = log.sockets.length;
  await clock.pass(60_000);
  assert.equal(log.sockets.length, tries);
  await postLeftovers(storage, post);
  assert.deepEqual(logged(), ["hang_up"]);
  assert.equal(storage.length, 0);
});

test("a session that is not ours is given up at once, a defect or a full log after three tries", async (t) => {
  t.mock.method(console, "warn", () => undefined);
  const notOurs = setUp();
  notOurs.log.accept().drop(4403);
  await notOurs.clock.pass(60_000);
  assert.equal(notOurs.log.sockets.length, 1);

  for (const code of [4400, 4409, 4429]) {
    const defect = setUp();
    defect.record("a");
    for (let i = 0; i < 10; i += 1) {
      defect.log.socket.drop(code);
      await defect.clock.pass(10_000);
    }
    assert.equal(defect.log.sockets.length, 3);
  }
});

test("a page that goes away posts what is not acknowledged, in a request that outlives it", async () => {
  const { log, posts, relay, record, logged } = setUp();
  log.accept();
  record("connected");
  log.socket.drop(1006);
  record("speech_started", "hang_up");
  relay.leave();
  await settled();
  assert.deepEqual(
    posts.map(({ frames, keepalive }) => [frames.map(({ seq }) => seq), keepalive]),
    [[[2, 3], true]],
  );
  assert.deepEqual(logged(), ["connected", "speech_started", "hang_up"]);
});

test("much is posted in pieces that browsers let outlive a page", async () => {
  const { posts, relay, log } = setUp();
  for (let i = 0; i < 20; i += 1)
    relay.record({ at_ms: i, type: "response_text", data: { text: "é".repeat(4000) } });
  relay.leave();
  await settled();
  assert.equal(log.rows.length, 20);
  assert.ok(posts.length > 1);
  for (const { bytes } of posts) assert.ok(bytes < 60 * 1024, `${bytes} bytes`);
});

test("a page that comes back after its POST was refused loses nothing", async () => {
  const { clock, log, relay, record, logged, refusePosts } = setUp();
  log.accept();
  log.socket.drop(1006);
  record("a", "b");
  refusePosts();
  relay.leave();
  await clock.pass(500);
  log.accept();
  assert.deepEqual(logged(), ["a", "b"]);
});

test("a page load delivers what an earlier one could not, and forgets what nobody takes", async (t) => {
  t.mock.method(console, "warn", () => undefined);
  const { log, storage, record, post, logged } = setUp();
  record("a", "b");
  await postLeftovers(storage, () => Promise.reject(new TypeError("Failed to fetch")));
  assert.equal(storage.length, 1, "no network: kept");
  for (const answer of [{}, { code: "csrf_failed" }, { code: "something_new" }]) {
    await postLeftovers(storage, async () => answer);
    assert.equal(storage.length, 1, "not the site's last word: kept");
  }
  log.rows.push({ seq: 1, type: "a" }); // "a" had arrived, its ack had not
  await postLeftovers(storage, post);
  assert.deepEqual(logged(), ["a", "b"]);
  assert.equal(storage.length, 0);

  for (const code of ["not_yours", "log_closed", "log_full", "bad_request", "gap"]) {
    const strange = setUp();
    strange.record("a");
    await postLeftovers(strange.storage, async () => ({ code }));
    assert.equal(strange.storage.length, 0, code);
  }
});

test("a full storage does not stop the log", (t) => {
  const warn = t.mock.method(console, "warn", () => undefined);
  const { log, storage, record, logged } = setUp();
  storage.room = 10;
  log.accept();
  record("a", "b");
  assert.deepEqual(logged(), ["a", "b"]);
  assert.ok(warn.mock.callCount() > 0);
});
