import assert from "node:assert/strict";
import { test } from "node:test";
import { Relay, type Standing } from "../../sessions_app/frontend/relay";
import type { Answer, Door } from "../../sessions_app/frontend/second-door";
import { postLeftovers, Unsent } from "../../sessions_app/frontend/unsent";
import { FakeClock, FakeLog, FakeStorage, settled } from "./fakes";

const SESSION = "9a8f0c1e-0000-4000-8000-000000000001";

/** The POST that ends in the same log. */
class FakeDoor implements Door {
  room = 60 * 1024;
  readonly posts: { frames: { seq: number }[]; bytes: number; outlivesPage: boolean }[] = [];
  /** What the site says to everything; undefined: it takes the frames. */
  answer: Answer | Error | undefined;
  readonly #log: FakeLog;

  constructor(log: FakeLog) {
    this.#log = log;
  }

  async post(session: string, body: string, { outlivesPage } = { outlivesPage: false }): Promise<Answer> {
    assert.equal(session, SESSION);
    if (this.answer instanceof Error) throw this.answer;
    if (this.answer) return this.answer;
    const { frames } = JSON.parse(body);
    const bytes = new TextEncoder().encode(body).length;
    this.posts.push({ frames, bytes, outlivesPage });
    if (outlivesPage) this.room -= bytes;
    for (const frame of frames) if (frame.seq === this.#log.ack + 1) this.#log.rows.push(frame);
    return { ack: this.#log.ack };
  }
}

function setUp({ storage = new FakeStorage() as FakeStorage | null } = {}) {
  const clock = new FakeClock();
  const log = new FakeLog();
  const door = new FakeDoor(log);
  const outputs: [string, string][] = [];
  const standings: Standing[] = [];
  const relay = new Relay({
    clock,
    openSocket: log.openSocket,
    unsent: new Unsent(SESSION, storage, door),
    onToolOutput: (id, output) => outputs.push([id, output]),
    onStanding: (standing) => standings.push(standing),
    random: () => 1,
  });
  const record = (...types: string[]) => {
    for (const type of types) relay.record({ at_ms: 0, type, data: {} });
  };
  const logged = () => log.rows.map(({ type }) => type);
  return {
    clock,
    log,
    storage: storage ?? new FakeStorage(),
    door,
    outputs,
    standings,
    relay,
    record,
    logged,
  };
}

test("what is recorded before the socket is open arrives, numbered from 1, and then nothing is kept", () => {
  const { log, storage, record, logged } = setUp();
  record("connected", "session_started");
  assert.equal(storage.length, 2);
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

test("a burst goes at once, the rest at a pace that the server allows, whether or not it answers", async () => {
  const { clock, log, record } = setUp();
  const socket = log.accept();
  record(...Array(300).fill("a"));
  assert.equal(log.rows.length, 180);
  await clock.pass(2_000);
  assert.equal(log.rows.length, 250);
  await clock.pass(2_000);
  assert.equal(log.rows.length, 300);
  assert.equal(socket.sent.length, 300, "nothing went twice");
});

test("a line that stalls gets no second burst when it comes back", async () => {
  const { clock, log, record } = setUp();
  const socket = log.accept();
  log.isAnswering = false;
  record(...Array(400).fill("a"));
  await clock.pass(10_000);
  assert.equal(socket.sent.length, 180, "what is not known to have arrived may arrive all at once");
  log.isAnswering = true;
  socket.tell({ type: "ack", ack: 180 });
  assert.equal(socket.sent.length, 180);
  await clock.pass(1_000);
  assert.equal(socket.sent.length, 215);
});

test("a server that asks for a smaller window gets it, and none gets more than 256 without an ack", async () => {
  const { clock, log, record } = setUp();
  log.isAnswering = false;
  log.socket.open();
  log.socket.tell({ type: "welcome", ack: 0, window: 10 });
  record(...Array(30).fill("a"));
  await clock.pass(5_000);
  assert.equal(log.socket.sent.length, 10);
  log.isAnswering = true;
  log.socket.tell({ type: "ack", ack: 10 });
  assert.equal(log.rows.length, 30);
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

test("after the end the relay tries until the log has all of it, however long that takes", async () => {
  const { clock, log, storage, relay, record, logged } = setUp();
  record("hang_up");
  relay.finish();
  for (let i = 0; i < 100; i += 1) {
    log.socket.drop(1006);
    await clock.pass(10_000);
  }
  assert.equal(storage.length, 1);
  const socket = log.accept();
  assert.deepEqual(logged(), ["hang_up"]);
  assert.equal(socket.readyState, 3);
});

test("the site's last word ends the tries, is told to the caller, and leaves nothing behind", async (t) => {
  t.mock.method(console, "warn", () => undefined);
  for (const [code, sentence] of [
    [4403, "This call is not yours."],
    [4410, "The log of this call is closed."],
    [4423, "This call is reported by another page."],
  ] as const) {
    const { clock, log, storage, door, relay, record, standings } = setUp();
    record("a");
    log.accept();
    log.isAnswering = false;
    record("b");
    log.socket.tell({ type: "refused", code: "…", message: sentence });
    log.socket.drop(code);
    record("c");
    await clock.pass(60_000);
    relay.leave();
    assert.equal(log.sockets.length, 1);
    assert.deepEqual(standings, [{ refused: sentence }]);
    assert.equal(storage.length, 0);
    assert.equal(door.posts.length, 0);
  }
});

test("a full log is the last word too, except for what was under way and may have had a place in it", async (t) => {
  t.mock.method(console, "warn", () => undefined);
  const { clock, log, storage, door, record, standings, logged } = setUp();
  record("last");
  log.socket.open();
  log.socket.tell({ type: "refused", code: "log_full", message: "The log is full." });
  log.socket.drop(4430);
  record("too late");
  await clock.pass(60_000);
  assert.deepEqual(standings, [{ refused: "The log is full." }]);
  await postLeftovers(storage, door);
  assert.deepEqual(logged(), ["last"]);
});

test("an older site gives no sentence with its last word; the page has one of its own", (t) => {
  t.mock.method(console, "warn", () => undefined);
  const { log, standings } = setUp();
  log.socket.drop(4403);
  assert.match((standings[0] as { refused: string }).refused, /transcript/);
});

test("numbers in the log that this page never gave are another page's: nothing is mixed into them", (t) => {
  t.mock.method(console, "warn", () => undefined);
  const { log, storage, record, standings } = setUp();
  for (const seq of [1, 2, 3]) log.rows.push({ seq, type: "theirs" });
  record("a");
  const socket = log.accept();
  assert.deepEqual([socket.sent, socket.readyState, storage.length], [[], 3, 0]);
  assert.equal(typeof standings[0], "object");
});

test("a defect is given up after three tries without an ack, and kept for the next page load", async (t) => {
  t.mock.method(console, "warn", () => undefined);
  for (const code of [4400, 4409, 4413, 4431]) {
    const { clock, log, door, storage, record, standings, logged } = setUp();
    record("a");
    for (let i = 0; i < 10; i += 1) {
      log.socket.drop(code);
      await clock.pass(10_000);
    }
    assert.equal(log.sockets.length, 3);
    record("b");
    assert.deepEqual(standings, ["kept"]);
    await postLeftovers(storage, door);
    assert.deepEqual(logged(), ["a", "b"]);
  }
});

test("an ack between them makes refusals single ones", async () => {
  const { clock, log, record, logged } = setUp();
  for (let i = 0; i < 5; i += 1) {
    record("a");
    log.accept();
    log.socket.drop(4409);
    await clock.pass(10_000);
  }
  record("b");
  log.accept();
  assert.equal(logged().length, 6);
});

test("every other close means: come back, as often as it takes", async () => {
  for (const code of [1000, 1001, 1006, 1011, 1012, 4012, 4408, 4429, 4500, 4503, 4999]) {
    const { clock, log, record, logged } = setUp();
    record("a");
    for (let i = 0; i < 5; i += 1) {
      log.socket.drop(code);
      await clock.pass(10_000);
    }
    assert.equal(log.sockets.length, 6, String(code));
    log.accept();
    assert.deepEqual(logged(), ["a"]);
  }
});

test("from a restart pages come back within two seconds, spread wider than from a cut", async () => {
  const { clock, log } = setUp();
  log.accept().drop(4012);
  await clock.pass(1_999);
  assert.equal(log.sockets.length, 1);
  await clock.pass(1);
  assert.equal(log.sockets.length, 2);
});

test("a line that has held for a while is mended as fast as a first one, though nothing was said on it", async () => {
  const { clock, log } = setUp();
  for (let i = 0; i < 6; i += 1) {
    log.socket.drop(1006);
    await clock.pass(10_000);
  }
  log.accept();
  await clock.pass(20_000);
  log.socket.drop(1006);
  await clock.pass(500);
  assert.equal(log.sockets.length, 8);
});

test("the caller is told only of what lasts: that the transcript is kept here, and that it is through", async () => {
  const { clock, log, record, standings } = setUp();
  record("a");
  await clock.pass(9_999);
  assert.deepEqual(standings, []);
  await clock.pass(1);
  assert.deepEqual(standings, ["kept"]);
  record("b");
  await clock.pass(5_500);
  log.accept();
  assert.deepEqual(standings, ["kept", "sent"]);

  log.isAnswering = false;
  record("c");
  await clock.pass(10_000);
  assert.deepEqual(standings, ["kept", "sent", "kept"], "an open socket without acks is no better than none");
});

test("a trouble that is over in time is not mentioned", async () => {
  const { clock, log, record, standings } = setUp();
  for (let i = 0; i < 20; i += 1) {
    record("a");
    log.socket.drop(1006);
    await clock.pass(9_000);
    log.accept();
    await clock.pass(0);
  }
  assert.deepEqual(standings, []);
});

test("where the browser keeps nothing, the caller is told to stay instead", async () => {
  const { clock, record, standings } = setUp({ storage: null });
  record("a");
  await clock.pass(10_000);
  assert.deepEqual(standings, ["held"]);
});

test("a page that goes away posts what is not acknowledged, in a request that outlives it", async () => {
  const { log, door, relay, record, logged } = setUp();
  log.accept();
  record("connected");
  log.socket.drop(1006);
  record("speech_started", "hang_up");
  relay.leave();
  await settled();
  assert.deepEqual(
    door.posts.map(({ frames, outlivesPage }) => [frames.map(({ seq }) => seq), outlivesPage]),
    [[[2, 3], true]],
  );
  assert.deepEqual(logged(), ["connected", "speech_started", "hang_up"]);
});

test("a page that is hidden posts only what no socket carries", async () => {
  const { log, door, relay, record } = setUp();
  log.accept();
  log.isAnswering = false;
  record("a");
  relay.hide();
  assert.equal(door.posts.length, 0);
  log.socket.drop(1006);
  relay.hide();
  assert.equal(door.posts.length, 1);
  relay.leave();
  assert.equal(door.posts.length, 2);
});

test("a page that goes away leaves behind what browsers allow; the next page load brings the rest", async () => {
  const { storage, door, relay, log } = setUp();
  for (let i = 0; i < 20; i += 1)
    relay.record({ at_ms: i, type: "response_text", data: { text: "é".repeat(4000) } });
  relay.hide();
  relay.leave();
  await settled();
  assert.ok(log.rows.length < 20);
  assert.ok(door.posts.reduce((sum, { bytes }) => sum + bytes, 0) <= 60 * 1024);
  await postLeftovers(storage, door);
  assert.deepEqual(
    log.rows.map(({ at_ms }) => at_ms),
    Array.from({ length: 20 }, (_, index) => index),
  );
  assert.equal(storage.length, 0);
  for (const { bytes } of door.posts) assert.ok(bytes <= 60 * 1024, `${bytes} bytes`);
});

test("left-overs are posted in requests of at most a thousand frames, which the site takes", async () => {
  const { storage, door, record, logged } = setUp();
  record(...Array(2_500).fill("a"));
  await postLeftovers(storage, door);
  assert.equal(logged().length, 2_500);
  for (const { frames } of door.posts) assert.ok(frames.length <= 1_000);
});

test("a page that comes back after its POST was refused loses nothing", async () => {
  const { clock, log, door, relay, record, logged } = setUp();
  log.accept();
  log.socket.drop(1006);
  record("a", "b");
  door.answer = { code: "csrf_failed" };
  relay.leave();
  await clock.pass(500);
  log.accept();
  assert.deepEqual(logged(), ["a", "b"]);
});

test("a page that comes back after its POST was taken goes on with the next number", async () => {
  const { clock, log, relay, record, logged } = setUp();
  record("a", "b");
  relay.leave();
  await settled();
  record("c");
  log.socket.drop(1006);
  await clock.pass(500);
  log.accept();
  assert.deepEqual(logged(), ["a", "b", "c"]);
});

test("a page load delivers what an earlier one could not, and forgets what nobody takes", async (t) => {
  t.mock.method(console, "warn", () => undefined);
  const { log, storage, door, record, logged } = setUp();
  record("a", "b");
  const answers = [new TypeError("Failed to fetch"), {}, { code: "csrf_failed" }, { code: "something_new" }];
  for (const answer of answers) {
    door.answer = answer;
    await postLeftovers(storage, door);
    assert.equal(storage.length, 2, "no network, or not the site's last word: kept");
  }
  door.answer = undefined;
  log.rows.push({ seq: 1, type: "a" }); // "a" had arrived, its ack had not
  await postLeftovers(storage, door);
  assert.deepEqual(logged(), ["a", "b"]);
  assert.equal(storage.length, 0);

  for (const code of ["not_yours", "log_closed", "log_full", "bad_request", "gap"]) {
    const strange = setUp();
    strange.record("a");
    strange.door.answer = { code };
    await postLeftovers(strange.storage, strange.door);
    assert.equal(strange.storage.length, 0, code);
  }
});

test("a full storage does not stop the log, and what had no room is kept as soon as there is some", async (t) => {
  const warn = t.mock.method(console, "warn", () => undefined);
  const { clock, log, storage, door, record, standings, logged } = setUp();
  record("a");
  storage.room = 10;
  record("b", "c");
  assert.ok(warn.mock.callCount() > 0);
  await clock.pass(10_000);
  assert.deepEqual(standings, ["held"], "the caller should stay: a reload would lose something");
  storage.room = Number.POSITIVE_INFINITY;
  log.rows.push({ seq: 1, type: "a" });
  log.isAnswering = false;
  log.accept();
  assert.equal(storage.length, 2);
  await postLeftovers(storage, door);
  assert.deepEqual(logged(), ["a", "b", "c"]);
});

test("where the storage had no room, the next page load leaves a note in the log instead of a gap", async (t) => {
  t.mock.method(console, "warn", () => undefined);
  const { storage, door, record, logged } = setUp();
  record("a");
  storage.room = 10;
  record("lost", "lost");
  storage.room = Number.POSITIVE_INFINITY;
  record("d");
  await postLeftovers(storage, door);
  assert.deepEqual(logged(), ["a", "event_lost", "event_lost", "d"]);
});
