import assert from "node:assert/strict";
import { test } from "node:test";
import type { Credential } from "../../sessions_app/frontend/mint";
import { CallFailure } from "../../sessions_app/frontend/situations";
import { CREDENTIAL, deferred, live, refuseToJoin, setUp, tool, type World } from "./call-world";
import { settled } from "./fakes";

test("a call goes from the microphone over connecting to live, and by hang-up to its end", async () => {
  const it = await live();
  assert.equal(it.session.microphone, it.tracks[0], "the granted microphone is the one that is published");
  it.call.hangUp();
  await settled();
  assert.deepEqual([...new Set(it.states)], ["microphone", "connecting", "live", "ended"]);
  assert.deepEqual(it.logged(), ["connected", "session_started", "hang_up"]);
  it.assertClosed();
});

test("a denied microphone leaves nothing open, asks the site for nothing, and the next try works", async () => {
  const it = setUp();
  it.world.grant = () => Promise.reject(new CallFailure("microphone_denied"));
  await it.call.start();
  assert.deepEqual(it.call.state, { name: "failed", code: "microphone_denied" });
  assert.deepEqual([it.opened, it.sessions.length], [[], 0]);
  it.world.grant = async () => undefined;
  await it.call.start();
  assert.equal(it.call.state.name, "live");
});

test("two clicks on start are one call", async () => {
  const it = setUp();
  await Promise.all([it.call.start(), it.call.start()]);
  await it.call.start();
  assert.equal(it.opened.length, 1);
  assert.equal(it.tracks.length, 1);
});

test("a microphone that is granted after the hang-up is stopped at once", async () => {
  const it = setUp();
  const grant = deferred<void>();
  it.world.grant = () => grant.promise;
  const starting = it.call.start();
  await settled();
  it.call.hangUp();
  assert.equal(it.call.state.name, "ended");
  grant.resolve();
  await starting;
  assert.equal(it.tracks[0]?.readyState, "ended");
  assert.deepEqual(it.opened, []);
  it.assertClosed();
});

test("a hang-up while the site is asked for a call closes the microphone now, and the call when it comes", async () => {
  const it = setUp();
  const minting = deferred<Credential>();
  it.world.mint = () => minting.promise;
  const starting = it.call.start();
  await settled();
  it.call.hangUp();
  it.assertClosed();
  minting.resolve(CREDENTIAL);
  await starting;
  assert.equal(it.sessions.length, 0, "nobody joins");
  assert.deepEqual(it.logged(), ["hang_up"], "the site is told that the call is over");
  it.assertClosed();
});

test("a hang-up while joining leaves the room, also if the join succeeds afterwards", async () => {
  const it = setUp();
  const joining = deferred<void>();
  it.world.prepare = (session) => {
    session.connecting = () => joining.promise;
  };
  const starting = it.call.start();
  await settled();
  it.call.hangUp();
  joining.resolve();
  await starting;
  assert.equal(it.call.state.name, "ended");
  assert.deepEqual(it.logged(), ["hang_up"]);
  it.assertClosed();
});

test("a new call can start while the old one is still being closed, and is not disturbed by it", async () => {
  const it = setUp();
  const first = deferred<Credential>();
  it.world.mint = () => first.promise;
  const starting = it.call.start();
  await settled();
  it.call.hangUp();
  it.world.mint = async () => ({ ...CREDENTIAL, session: "session-2" });
  await it.call.start();
  first.resolve(CREDENTIAL);
  await starting;
  assert.equal(it.call.state.name, "live");
  assert.equal(it.session.isConnected, true);
  assert.deepEqual(it.opened, ["session-2", "session-1"]);
  assert.deepEqual(it.closed, ["session-1"]);
});

test("each failure has its code, closes everything, and is logged if there is a log", async () => {
  const cases: [string, Partial<World>, string[]][] = [
    ["platform_busy", { mint: () => Promise.reject(new CallFailure("platform_busy")) }, []],
    ["media_refused", { prepare: refuseToJoin("refused") }, ["call_failed", "call_failed"]],
    ["media_blocked", { prepare: refuseToJoin("no_media") }, ["call_failed"]],
    ["media_unreachable", { prepare: refuseToJoin("unreachable") }, ["call_failed"]],
    ["media_unreachable", { prepare: refuseToJoin("timeout") }, ["call_failed"]],
    [
      "site_unreachable",
      { load: () => Promise.reject(new CallFailure("site_unreachable")) },
      ["call_failed"],
    ],
  ];
  for (const [code, spoilt, logged] of cases) {
    const it = setUp();
    Object.assign(it.world, spoilt);
    await it.call.start();
    await settled();
    assert.deepEqual(it.call.state, { name: "failed", code });
    assert.deepEqual(it.logged(), logged);
    it.assertClosed();
  }
});

test("a failure that the site tells of comes with the site's sentence", async () => {
  const it = setUp();
  const sentence = "The voice platform does not know this agent.";
  it.world.mint = () => Promise.reject(new CallFailure("platform_agent_unknown", { sentence }));
  await it.call.start();
  assert.deepEqual(it.call.state, { name: "failed", code: "platform_agent_unknown", sentence });
});

test("an agent that says nothing for 20 s is missed; one that has spoken may be silent", async () => {
  const it = setUp();
  await it.call.start();
  await it.clock.pass(19_999);
  assert.equal(it.call.state.name, "live");
  await it.clock.pass(1);
  assert.deepEqual(it.call.state, { name: "failed", code: "agent_absent" });
  assert.deepEqual(it.entry("call_failed")?.data, { code: "agent_absent" });
  it.assertClosed();

  const silent = await live();
  await silent.clock.pass(60_000);
  assert.equal(silent.call.state.name, "live");
});

test("an agent that says goodbye has ended the call", async () => {
  const it = await live();
  it.session.tell("session_ended");
  it.session.tell("disconnected", { reason: 5 });
  assert.deepEqual(it.call.state, { name: "ended", by: "agent" });
  assert.deepEqual(it.logged().slice(-2), ["session_ended", "disconnected"]);
  it.assertClosed();
});

test("an agent that says goodbye and stays on the line is left after a moment", async () => {
  const it = await live();
  it.session.tell("session_ended");
  await it.clock.pass(5_000);
  assert.deepEqual(it.call.state, { name: "ended", by: "agent" });
  it.assertClosed();
});

test("a connection that is lost is a failure, with what was said until then", async () => {
  const it = await live();
  it.session.tell("reconnecting");
  assert.deepEqual(it.notices(), ["reconnecting"]);
  it.session.tell("disconnected", {});
  assert.deepEqual(it.call.state, { name: "failed", code: "media_lost" });
  assert.deepEqual(it.logged().slice(-3), ["reconnecting", "disconnected", "call_failed"]);
  it.assertClosed();
});

test("a page that closes in mid-sentence logs what was heard so far, marked as cut, before the hang-up", async () => {
  const it = await live();
  it.session.tell("response_text", { text: "Hello.", turn_id: "agent-1", is_final: false });
  it.session.tell("response_text", { text: "Hello.", turn_id: "agent-1", is_final: true });
  it.session.tell("speech_started");
  await it.clock.pass(300);
  it.session.tell("input_audio_transcript", { transcript: "What", turn_id: "user-1", is_final: false });
  it.session.tell("response_text", { text: "It is", turn_id: "agent-2", is_final: false });
  await it.clock.pass(300);
  it.session.tell("response_text", { text: "It is 16", turn_id: "agent-2", is_final: false });
  it.session.tell("response_text", { text: " ", turn_id: "agent-3", is_final: false });
  it.call.hangUp("page_closed");
  const cut = { is_final: true, cut_by: "page_closed" };
  assert.deepEqual(it.log.slice(-3), [
    { at_ms: 0, type: "input_audio_transcript", data: { transcript: "What", turn_id: "user-1", ...cut } },
    {
      at_ms: 300,
      type: "response_text",
      data: { text: "It is 16", turn_id: "agent-2", ...cut, took_ms: 300 },
    },
    { at_ms: 600, type: "hang_up", data: { by: "page_closed" } },
  ]);
  it.assertClosed();
});

test("whoever ends the call, the sentence that it cuts off is logged with the reason", async () => {
  const ends: [string, (it: Awaited<ReturnType<typeof live>>) => void][] = [
    ["hang_up", (it) => it.call.hangUp()],
    ["call_failed", (it) => it.session.tell("disconnected", {})],
    [
      "session_ended",
      (it) => {
        it.session.tell("session_ended");
        it.session.tell("disconnected", { agent_left: true });
      },
    ],
  ];
  for (const [reason, end] of ends) {
    const it = await live();
    it.session.tell("response_text", { text: "It is", is_final: false });
    end(it);
    assert.equal(it.entry("response_text")?.data.cut_by, reason);
    it.assertClosed();
  }
});

test("the log says who hung up", async () => {
  const it = await live();
  it.call.hangUp();
  assert.deepEqual(it.entry("hang_up")?.data, { by: "caller" });
});

test("the first sound of a reply is logged at its own time, with how long the caller waited for it", async () => {
  const it = await live();
  await it.clock.pass(700);
  it.session.tell("reply_audible", { ago_ms: 100 });
  await it.clock.pass(4_300);
  it.session.tell("speech_stopped");
  await it.clock.pass(800);
  it.session.tell("response_text", { text: "It is", turn_id: "agent-2", is_final: false });
  await it.clock.pass(50);
  it.session.tell("reply_audible", { ago_ms: 80 });
  assert.deepEqual(
    it.log.filter(({ type }) => type === "reply_audible"),
    [
      { at_ms: 600, type: "reply_audible", data: {} }, // a greeting answers nobody
      { at_ms: 5770, type: "reply_audible", data: { after_ms: 770, turn_id: "agent-2" } },
    ],
  );
});

test("a greeting that is heard before the line is open both ways has no wait to tell", async () => {
  const it = setUp();
  it.world.prepare = (session) => {
    session.connecting = async () => session.tell("reply_audible", { ago_ms: 0 });
  };
  await it.call.start();
  assert.deepEqual(it.entry("reply_audible")?.data, {});
});

test("an agent that is heard is there, though it has written nothing yet", async () => {
  const it = setUp();
  await it.call.start();
  it.session.tell("reply_audible", { ago_ms: 0 });
  await it.clock.pass(60_000);
  assert.equal(it.call.state.name, "live");
});

test("every incident of the call is logged when it happens", async () => {
  const it = await live();
  const incidents = [
    "interruption",
    "reconnecting",
    "reconnected",
    "playback_blocked",
    "playback_allowed",
    "microphone_lost",
    "microphone_restored",
    "message_dropped",
  ];
  for (const type of incidents) {
    await it.clock.pass(100);
    it.session.tell(type);
  }
  assert.deepEqual(
    it.log.slice(2).map(({ type, at_ms }) => [type, at_ms]),
    incidents.map((type, index) => [type, (index + 1) * 100]),
  );
});

test("a closed lid is logged with its length, a busy machine is not", async () => {
  const it = await live();
  await it.clock.pass(15_000);
  it.clock.sleep(20_000);
  await it.clock.pass(10_000);
  assert.equal(it.entry("page_asleep"), undefined);
  it.clock.sleep(600_000);
  await it.clock.pass(10_000);
  const asleep = it.entry("page_asleep");
  assert.deepEqual([asleep?.at_ms, asleep?.data], [20_000, { for_ms: 600_000 }]);
  await it.clock.pass(60_000);
  assert.equal(it.logged().filter((type) => type === "page_asleep").length, 1);
  it.call.hangUp();
  it.clock.sleep(600_000);
  await it.clock.pass(60_000);
  assert.equal(it.logged().at(-1), "hang_up");
});

test("mute silences the microphone, and is logged", async () => {
  const it = await live();
  await it.call.setMuted(true);
  assert.equal(it.session.isMicrophoneOn, false);
  assert.equal(it.call.state.name === "live" && it.call.state.isMuted, true);
  await it.call.setMuted(false);
  assert.equal(it.session.isMicrophoneOn, true);
  assert.deepEqual(
    it.log.filter(({ type }) => type === "microphone_muted").map(({ data }) => data),
    [{ muted: true }, { muted: false }],
  );
});

test("times in the log count from the request for the call and follow the speech, not the arrival", async () => {
  const it = setUp();
  it.world.grant = () => it.clock.pass(8_000); // a slow answer to the microphone prompt is not part of the call
  await it.call.start();
  it.session.tell("session_started", { id: "call-1" });
  await it.clock.pass(1000);
  it.session.tell("speech_started");
  await it.clock.pass(1500);
  it.session.tell("response_text", { text: "It", turn_id: "agent-1", is_final: false });
  it.session.tell("input_audio_transcript", { transcript: "Hi", turn_id: "user-1", is_final: true });
  await it.clock.pass(500);
  it.session.tell("response_text", { text: "It is", turn_id: "agent-1", is_final: true });
  it.call.hangUp();
  assert.deepEqual(
    it.log.map(({ type, at_ms }) => [type, at_ms]),
    [
      ["connected", 0],
      ["session_started", 0],
      ["speech_started", 1000],
      ["input_audio_transcript", 1000],
      ["response_text", 2500],
      ["hang_up", 3000],
    ],
  );
  assert.deepEqual(it.said, ["It", "Hi", "It is"]);
});

test("a page tool is answered by the page, once, and both the call and the answer are logged", async () => {
  const it = await live();
  it.session.tell("tool_call", tool("call-1", "set_theme", { theme: "dark" }));
  it.session.tell("tool_call", tool("call-1", "set_theme", { theme: "dark" }));
  await settled();
  it.call.answerTool("call-1", '{"from":"the server"}');
  await it.clock.pass(20_000);
  assert.deepEqual(it.session.outputs, [["call-1", '{"theme":"dark"}']]);
  assert.equal(it.entry("tool_call")?.runs_on, "page");
  assert.deepEqual(it.logged().slice(-2), ["tool_call", "tool_call_output"]);
  assert.deepEqual(it.entry("tool_call_output")?.data, { toolCallId: "call-1", output: '{"theme":"dark"}' });
});

test("a server tool is left to the server; its answer is passed on once, even if the server repeats it", async () => {
  const it = await live();
  it.session.tell("tool_call", tool("call-1", "get_weather", { city: "Rome" }));
  assert.equal(it.entry("tool_call")?.runs_on, undefined);
  it.call.answerTool("call-1", '{"city":"Rome"}');
  it.call.answerTool("call-1", '{"city":"Rome"}');
  it.call.answerTool("call-9", "{}");
  await settled();
  assert.deepEqual(it.session.outputs, [["call-1", '{"city":"Rome"}']]);
});

test("if no answer comes, the agent is told so before it gives up, and a late answer is dropped", async () => {
  const it = await live();
  it.session.tell("tool_call", tool("call-1", "get_weather"));
  await it.clock.pass(9_000);
  it.call.answerTool("call-1", '{"city":"Rome"}');
  await settled();
  assert.equal(it.session.outputs.length, 1);
  assert.match(it.session.outputs[0]?.[1] ?? "", /"error":".*not known whether it was done/);
});

test("a page tool with a defect still gives the agent an answer", async (t) => {
  t.mock.method(console, "error", () => undefined);
  const it = await live();
  it.session.tell("tool_call", tool("call-1", "broken"));
  await settled();
  assert.match(it.session.outputs[0]?.[1] ?? "", /"error"/);
});

test("an answer that cannot be sent while the media reconnects is sent afterwards, and logged then", async () => {
  const it = await live();
  it.session.sending = () => Promise.reject(new Error("not connected"));
  it.session.tell("tool_call", tool("call-1", "set_theme", { theme: "dark" }));
  await settled();
  assert.equal(it.entry("tool_call_output"), undefined);
  it.session.sending = async () => undefined;
  await it.clock.pass(1_000);
  assert.equal(it.session.outputs.length, 1);
  assert.notEqual(it.entry("tool_call_output"), undefined);
});

test("a browser that does not ask gives the microphone while the site is asked for the call", async () => {
  const it = setUp();
  it.world.isGranted = true;
  const grant = deferred<void>();
  it.world.grant = () => grant.promise;
  const starting = it.call.start();
  await settled();
  assert.equal(it.session.isConnected, true);
  assert.equal(it.call.state.name, "microphone");
  grant.resolve();
  await starting;
  assert.equal(it.call.state.name, "live");
  assert.equal(it.session.microphone, it.tracks[0]);
});

test("a microphone that fails while the call is joined closes the call, and says so in its log", async () => {
  const it = setUp();
  it.world.isGranted = true;
  const grant = deferred<void>();
  it.world.grant = () => grant.promise;
  const starting = it.call.start();
  await settled();
  grant.reject(new CallFailure("microphone_busy"));
  await starting;
  assert.deepEqual(it.call.state, { name: "failed", code: "microphone_busy" });
  assert.deepEqual(it.entry("call_failed")?.data, { code: "microphone_busy" });
  it.assertClosed();
});

test("a prompt that nobody answers is pointed to after 8 s, and given up after a minute", async () => {
  const it = setUp();
  it.world.grant = () => new Promise(() => undefined);
  void it.call.start();
  await settled();
  await it.clock.pass(7_999);
  assert.deepEqual(it.call.state, { name: "microphone", isUnanswered: false });
  await it.clock.pass(1);
  assert.deepEqual(it.call.state, { name: "microphone", isUnanswered: true });
  await it.clock.pass(52_000);
  assert.deepEqual(it.call.state, { name: "failed", code: "microphone_ignored" });
  it.assertClosed();
});

test("a token that has grown too old is replaced by a fresh one, once and without a word", async () => {
  const it = setUp();
  let joins = 0;
  it.world.prepare = (session) => {
    joins += 1;
    if (joins === 1) refuseToJoin("refused")(session);
  };
  await it.call.start();
  assert.equal(it.call.state.name, "live");
  assert.equal(it.states.includes("failed"), false);
  assert.deepEqual(it.opened, ["session-1", "session-2"]);
  assert.deepEqual(it.closed, ["session-1"]);
  assert.deepEqual(it.entry("call_failed")?.data, { code: "media_refused" });
});

test("an agent that joins without a voice is given up; one that comes late has its time", async () => {
  const it = setUp();
  await it.call.start();
  await it.clock.pass(19_000);
  it.session.tell("agent_here");
  await it.clock.pass(14_999);
  assert.equal(it.call.state.name, "live");
  await it.clock.pass(1);
  assert.deepEqual(it.call.state, { name: "failed", code: "agent_silent" });
  it.assertClosed();
});

test("why a connection ended is told apart", async () => {
  const reasons: [Record<string, unknown>, string][] = [
    [{}, "media_lost"],
    [{ gave_up: true }, "media_lost"],
    [{ gave_up: true, reason: 1 }, "media_lost"],
    [{ reason: 14 }, "media_lost"],
    [{ reason: 2 }, "taken_over"],
    [{ reason: 3 }, "room_closed"],
    [{ reason: 4 }, "room_closed"],
    [{ reason: 5 }, "room_closed"],
    [{ agent_left: true }, "agent_left"],
    [{ reason: 1 }, "page_asleep"],
  ];
  for (const [data, code] of reasons) {
    const it = await live();
    it.session.tell("disconnected", data);
    assert.deepEqual(it.call.state, { name: "failed", code });
    assert.deepEqual(it.entry("call_failed")?.data, { code });
    it.assertClosed();
  }
});

test("a connection that does not survive the device's sleep ended by the sleep", async () => {
  const it = await live();
  await it.clock.pass(10_000);
  it.clock.sleep(600_000);
  it.call.pageShown();
  it.session.tell("reconnecting");
  await it.clock.pass(25_000);
  it.session.tell("disconnected", { gave_up: true });
  assert.deepEqual(it.call.state, { name: "failed", code: "page_asleep" });
  assert.deepEqual(it.entry("call_failed")?.data, { code: "page_asleep" });

  const survivor = await live();
  survivor.clock.sleep(600_000);
  survivor.call.pageShown();
  await survivor.clock.pass(60_000);
  survivor.session.tell("disconnected", {});
  assert.deepEqual(survivor.call.state, { name: "failed", code: "media_lost" });
});

test("the call's time goes on while the device sleeps, so that what comes later is not told as earlier", async () => {
  const it = await live();
  await it.clock.pass(10_000);
  it.clock.sleep(600_000);
  it.call.pageShown();
  it.session.tell("interruption");
  assert.equal(it.entry("page_asleep")?.at_ms, 10_000);
  assert.equal(it.entry("interruption")?.at_ms, 610_000);
});

test("a call in another tab is told of; on request it moves here, and ends there", async () => {
  const it = setUp();
  it.world.isElsewhere = true;
  await it.call.start();
  assert.deepEqual(it.call.state, { name: "failed", code: "call_elsewhere" });
  assert.deepEqual([it.opened, it.tracks], [[], []]);
  await it.call.start({ here: true });
  assert.equal(it.call.state.name, "live");
  it.lock.lose();
  assert.deepEqual(it.call.state, { name: "failed", code: "moved_to_another_tab" });
  it.assertClosed();
});

test("another microphone takes the place of the first in mid-call; one that does not start changes nothing", async () => {
  const it = await live();
  const [first] = it.tracks;
  await it.call.useMicrophone("headset");
  assert.equal(it.tracks[1]?.deviceId, "headset");
  assert.deepEqual([it.session.microphone, it.metered], [it.tracks[1], it.tracks[1]]);
  assert.equal(first?.readyState, "ended");

  it.world.grant = () => Promise.reject(new CallFailure("microphone_busy"));
  await it.call.useMicrophone("desk");
  assert.deepEqual(it.notices(), ["microphone_unusable"]);
  assert.equal(it.session.microphone, it.tracks[1]);
  it.call.settle("microphone_unusable");
  assert.deepEqual(it.notices(), []);
  it.call.hangUp();
  it.assertClosed();
});

test("a lost microphone can be got again; as long as it cannot, it stays lost", async () => {
  const it = await live();
  it.session.tell("microphone_lost");
  it.world.grant = () => Promise.reject(new CallFailure("microphone_missing"));
  assert.equal(await it.call.useMicrophone(), false);
  assert.deepEqual(it.notices(), ["microphone_unusable", "microphone_lost"]);
  it.world.grant = async () => undefined;
  await it.call.useMicrophone();
  assert.deepEqual(it.notices(), []);
});

test("a microphone that arrives after the hang-up is not left open", async () => {
  const it = await live();
  const grant = deferred<void>();
  it.world.grant = () => grant.promise;
  const changing = it.call.useMicrophone("headset");
  it.call.hangUp();
  grant.resolve();
  await changing;
  it.assertClosed();
});

test("a microphone that cannot be unmuted is told as lost", async () => {
  const it = await live();
  await it.call.setMuted(true);
  it.session.switching = () => Promise.reject(new DOMException("", "NotFoundError"));
  await it.call.setMuted(false);
  assert.deepEqual(it.notices(), ["microphone_lost"]);
  assert.equal(it.call.state.name === "live" && it.call.state.isMuted, true);
});

test("with push to talk the microphone begins muted", async () => {
  const it = setUp();
  await it.call.start({ isMuted: true });
  assert.equal(it.session.isMicrophoneOn, false);
  assert.equal(it.call.state.name === "live" && it.call.state.isMuted, true);
});

test("the meter follows the track that is sent, also when the session has taken another one", async () => {
  const it = await live();
  const other = it.openTrack();
  it.session.microphone = other;
  it.session.tell("microphone_switched", { label: "Desk" });
  assert.equal(it.metered, other);
});

test("a token that may not speak is refused once, and its room is left", async () => {
  const it = setUp();
  it.world.prepare = (session) => {
    session.switching = () => Promise.reject(Object.assign(new Error("…"), { name: "PublishTrackError" }));
  };
  await it.call.start();
  await settled();
  assert.deepEqual(it.call.state, { name: "failed", code: "media_refused" });
  assert.equal(it.sessions.length, 1);
  it.assertClosed();
});

test("a microphone that comes after its token was refused goes to the second session, alive", async () => {
  const it = setUp();
  it.world.isGranted = true;
  const grant = deferred<void>();
  it.world.grant = () => grant.promise;
  it.world.prepare = (session) => {
    if (it.sessions.length === 0) refuseToJoin("refused")(session);
  };
  const starting = it.call.start();
  await settled();
  grant.resolve();
  await starting;
  assert.equal(it.call.state.name, "live");
  assert.equal(it.session.microphone, it.tracks[0]);
  assert.equal(it.tracks[0]?.readyState, "live");
});

test("a speaker that cannot be used is told of", async () => {
  const it = await live();
  assert.equal(await it.call.useSpeaker("desk"), true);
  assert.equal(it.session.speaker, "desk");
  it.session.switching = () => Promise.reject(new DOMException("", "NotFoundError"));
  assert.equal(await it.call.useSpeaker("gone"), false);
  assert.deepEqual(it.notices(), ["speaker_unusable"]);
  assert.notEqual(it.entry("speaker_unusable"), undefined);
});

test("what the agent does is told: it listens, thinks and speaks; nothing is thought about for ever", async () => {
  const it = await live();
  const doing = () => (it.call.state.name === "live" ? it.call.state.doing : "");
  assert.equal(doing(), "listening");
  it.session.tell("speech_started");
  assert.equal(doing(), "listening");
  it.session.tell("speech_stopped");
  assert.equal(doing(), "thinking");
  it.session.tell("response_text", { text: "It", turn_id: "agent-1", is_final: false });
  assert.equal(doing(), "speaking");
  it.session.tell("response_text", { text: "It is", turn_id: "agent-1", is_final: true });
  assert.equal(doing(), "listening");
  it.session.tell("speech_stopped");
  await it.clock.pass(14_999);
  assert.equal(doing(), "thinking");
  await it.clock.pass(1);
  assert.equal(doing(), "listening");
});

test("how long the connection has been broken counts from the first word of it", async () => {
  const it = await live();
  const since = () => (it.call.state.name === "live" ? it.call.state.reconnectingSince : undefined);
  assert.equal(since(), null);
  const broken = it.clock.now();
  it.session.tell("reconnecting");
  await it.clock.pass(3_000);
  it.session.tell("reconnecting");
  assert.equal(since(), broken);
  it.session.tell("reconnected");
  assert.equal(since(), null);
});

test("a tool's card tells how long it took", async () => {
  const it = await live();
  it.session.tell("tool_call", tool("call-1", "get_weather"));
  await it.clock.pass(1_200);
  it.call.answerTool("call-1", "{}");
  await settled();
  assert.deepEqual(it.tools, [{ name: "get_weather", took_ms: 1_200 }]);
});
