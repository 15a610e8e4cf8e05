import assert from "node:assert/strict";
import { test } from "node:test";
import { ConnectionError, RoomEvent } from "livekit-client";
import {
  ConnectionState,
  type DisconnectReason,
  VatelConnectError,
  WebRTCSession,
} from "../../sessions_app/frontend/vatel-sdk";
import {
  AGENT_RETURN_MS,
  FAREWELL_MS,
  LEAVING_LIMIT_MS,
  MEDIA_LIMIT_MS,
  SIGNALLING_LIMIT_MS,
} from "../../sessions_app/frontend/vatel-sdk/connection";
import { PLAYBACK_SETTLE_MS } from "../../sessions_app/frontend/vatel-sdk/playback";
import { Call, FakeContainer, FakeVoice, page, settled, TOKEN, URL_ } from "./vatel-sdk-room";

const TIMERS = { apis: ["setTimeout" as const] };

async function failure(connecting: Promise<unknown>): Promise<VatelConnectError> {
  const error = await connecting.then(
    () => assert.fail("connect() should have failed"),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof VatelConnectError, String(error));
  const shown = `${error.message} ${error.stack} ${JSON.stringify(error)} ${String(error.cause)}`;
  assert.ok(!shown.includes(TOKEN) && !shown.includes("secret-path"), `the error quotes a secret: ${shown}`);
  return error;
}

test("connect gives the room, and the state follows the call", async () => {
  const call = new Call();
  assert.equal(call.session.connectionState, ConnectionState.Disconnected);
  const connecting = call.session.connect({ token: TOKEN, url: URL_, room: "elsewhere" });
  assert.equal(call.session.connectionState, ConnectionState.Connecting);
  await call.room.asked();
  call.room.admit();
  assert.deepEqual(await connecting, { room: "call-1" });
  assert.equal(call.session.connectionState, ConnectionState.Connected);
  await call.session.disconnect();
  assert.equal(call.session.connectionState, ConnectionState.Disconnected);
});

test("connect refuses a missing token and an address that is none, without a room", async () => {
  const call = new Call();
  for (const url of ["media.example", "ftp://media.example", "ws://", ""]) {
    assert.equal((await failure(call.session.connect({ token: TOKEN, url }))).code, "failed");
  }
  for (const token of ["", undefined as unknown as string]) {
    assert.match((await failure(call.session.connect({ token, url: URL_ }))).message, /token/);
  }
  assert.equal(call.rooms.length, 0);
  await call.begin();
});

test("connect refuses to run outside a browser", async (context) => {
  const { RTCPeerConnection } = globalThis;
  context.after(() => Object.assign(globalThis, { RTCPeerConnection }));
  Object.assign(globalThis, { RTCPeerConnection: undefined });
  assert.match((await failure(new WebRTCSession().connect({ token: TOKEN }))).message, /browser/);
});

test("a second connect is refused while one is running, and leaves that one alone", async () => {
  const call = new Call();
  const connecting = call.session.connect({ token: TOKEN, url: URL_ });
  await assert.rejects(call.session.connect({ token: TOKEN, url: URL_ }), { name: "SessionBusyError" });
  await call.room.asked();
  call.room.admit();
  await connecting;
  await assert.rejects(call.session.connect({ token: TOKEN, url: URL_ }), { name: "SessionBusyError" });
  assert.equal(call.rooms.length, 1);
  assert.equal(call.session.connectionState, ConnectionState.Connected);
});

test("after disconnect the same object connects in a new room, with its handlers", async () => {
  const call = new Call();
  await call.begin();
  await call.session.disconnect();
  const room = await call.begin();
  room.say({ type: "speech_stopped" });
  await call.hear(2);
  assert.equal(call.rooms.length, 2);
  assert.deepEqual(call.types(), ["disconnected", "speech_stopped"]);
});

test("a connect right after a hang-up waits until the old call is closed", async () => {
  const call = new Call();
  await call.begin();
  const leaving = call.session.disconnect();
  const connecting = call.session.connect({ token: TOKEN, url: URL_ });
  await call.room.asked();
  assert.deepEqual(call.types(), ["disconnected"]);
  call.room.admit();
  await Promise.all([leaving, connecting]);
  assert.equal(call.session.connectionState, ConnectionState.Connected);
});

test("a page that goes away leaves its call", async () => {
  const call = new Call();
  await call.begin();
  page.dispatchEvent(new Event("pagehide"));
  assert.equal(call.session.connectionState, ConnectionState.Disconnected);
  assert.equal(call.room.disconnects, 1);
});

test("a handler of disconnected can connect again at once", async () => {
  const call = new Call();
  let again: Promise<unknown> | undefined;
  const unsubscribe = call.session.on("disconnected", () => {
    unsubscribe();
    again = call.session.connect({ token: TOKEN, url: URL_ });
  });
  await call.begin();
  await call.session.disconnect();
  await call.room.asked();
  call.room.admit();
  await again;
  assert.equal(call.rooms.length, 2);
});

test("hanging up while connecting cancels the call and tells no disconnected", async () => {
  const call = new Call();
  const failing = failure(call.session.connect({ token: TOKEN, url: URL_ }));
  await call.room.asked();
  await call.session.disconnect();
  assert.equal((await failing).code, "cancelled");
  assert.deepEqual(call.heard, []);
  assert.equal(call.session.connectionState, ConnectionState.Disconnected);
});

test("hanging up before the room was even asked never asks it", async () => {
  const call = new Call();
  const failing = failure(call.session.connect({ token: TOKEN, url: URL_ }));
  await call.session.disconnect();
  assert.equal((await failing).code, "cancelled");
  await settled();
  assert.equal(call.room.connects, 0);
});

test("a join that succeeds after the hang-up is left again", async () => {
  const call = new Call();
  const failing = failure(call.session.connect({ token: TOKEN, url: URL_ }));
  await call.room.asked();
  // The state in which LiveKit's own disconnect() does nothing while its connect() goes on.
  call.room.state = ConnectionState.Disconnected;
  await call.session.disconnect();
  assert.equal((await failing).code, "cancelled");
  call.room.admit();
  await settled();
  assert.equal(call.room.state, ConnectionState.Disconnected);
  assert.deepEqual(call.heard, []);
});

test("a failed connect has a code and no secret in it, and the session can try again", async () => {
  const quoting = `invalid token: ${TOKEN}, ${URL_}`;
  const cases: [unknown, string, number?][] = [
    [ConnectionError.notAllowed(quoting, 401), "refused", 401],
    [ConnectionError.notAllowed(quoting, 403), "refused", 403],
    [ConnectionError.serverUnreachable(quoting), "unreachable"],
    [ConnectionError.websocket(quoting), "unreachable"],
    [ConnectionError.timeout(quoting), "timeout"],
    [ConnectionError.internal(quoting), "failed"],
    [new Error(quoting), "failed"],
  ];
  const call = new Call();
  for (const [error, code, status] of cases) {
    const failing = failure(call.session.connect({ token: TOKEN, url: URL_ }));
    await call.room.asked();
    call.room.refuse(error);
    const failed = await failing;
    assert.equal(failed.code, code);
    assert.equal(failed.status, status);
  }
  assert.deepEqual(call.heard, []);
  await call.begin();
});

test("a server that never answers, and one that gives no media, are told apart by their limits", async (context) => {
  context.mock.timers.enable(TIMERS);
  const call = new Call();
  const silent = failure(call.session.connect({ token: TOKEN, url: URL_ }));
  await call.room.asked();
  context.mock.timers.tick(SIGNALLING_LIMIT_MS);
  assert.equal((await silent).code, "timeout");
  assert.equal(call.room.state, ConnectionState.Disconnected);

  const mute = failure(call.session.connect({ token: TOKEN, url: URL_ }));
  await call.room.asked();
  context.mock.timers.tick(SIGNALLING_LIMIT_MS - 1);
  call.room.signalled();
  context.mock.timers.tick(MEDIA_LIMIT_MS);
  assert.equal((await mute).code, "no_media");

  const noPath = failure(call.session.connect({ token: TOKEN, url: URL_ }));
  await call.room.asked();
  call.room.signalled();
  call.room.refuse(ConnectionError.internal("could not establish pc connection"));
  assert.equal((await noPath).code, "no_media");
});

test("being turned out while joining fails at once, not at the time limit", async () => {
  const call = new Call();
  const failing = failure(call.session.connect({ token: TOKEN, url: URL_ }));
  await call.room.asked();
  call.room.drop(2 as DisconnectReason);
  assert.equal((await failing).code, "failed");
});

test("a join whose good-bye never ends fails all the same, and the next one begins", async (context) => {
  context.mock.timers.enable(TIMERS);
  const call = new Call();
  for (const isSignalled of [false, true]) {
    const failing = failure(call.session.connect({ token: TOKEN, url: URL_ }));
    await call.room.asked();
    call.room.isStuck = true;
    if (isSignalled) call.room.signalled();
    context.mock.timers.tick(isSignalled ? MEDIA_LIMIT_MS : SIGNALLING_LIMIT_MS);
    await settled();
    context.mock.timers.tick(LEAVING_LIMIT_MS);
    assert.equal((await failing).code, isSignalled ? "no_media" : "timeout");
  }
  await call.begin();
});

test("a connect after a hang-up whose good-bye never ends does not wait for it for ever", async (context) => {
  context.mock.timers.enable(TIMERS);
  const call = new Call();
  const room = await call.begin();
  room.isStuck = true;
  void call.session.disconnect();
  const connecting = call.session.connect({ token: TOKEN, url: URL_ });
  await settled();
  context.mock.timers.tick(LEAVING_LIMIT_MS);
  await call.room.asked();
  call.room.admit();
  await connecting;
  assert.deepEqual(call.types(), ["disconnected"]);
});

test("disconnected comes once, with LiveKit's reason, after all messages that had arrived", async () => {
  const call = new Call();
  const room = await call.begin();
  room.open().write('{"type":');
  room.say({ type: "session_ended" });
  room.drop(5 as DisconnectReason);
  await call.session.disconnect();
  await call.session.disconnect();
  assert.deepEqual(call.types(), ["message_dropped", "session_ended", "disconnected"]);
  assert.deepEqual(call.heard.at(-1)?.data, { reason: 5 });
});

test("a connection that LiveKit gives up has no reason", async () => {
  const call = new Call();
  (await call.begin()).drop();
  assert.deepEqual(await call.hear(1), [{ type: "disconnected", data: {} }]);
  assert.equal(call.session.connectionState, ConnectionState.Disconnected);
});

test("the agent's voice becomes an audio element, and goes from the page with the track", async (context) => {
  context.mock.timers.enable(TIMERS);
  const container = new FakeContainer();
  const call = new Call({ remoteAudioContainer: container as unknown as HTMLElement });
  const room = await call.begin();
  const [agent, colleague] = [new FakeVoice(), new FakeVoice()];
  room.speak(agent);
  room.speak(colleague);
  assert.deepEqual([...container.children], [agent.element, colleague.element]);
  assert.equal(agent.element.autoplay, true);
  assert.ok(agent.element.attributes.has("playsinline"));
  room.fallSilent(agent);
  assert.deepEqual([...container.children], [colleague.element]);
  context.mock.timers.tick(FAREWELL_MS);
  await settled();
  assert.equal(room.disconnects, 0);
  await call.session.disconnect();
  assert.equal(container.children.size, 0);
});

test("when the agent's voice is gone the session hangs up once, after the last words", async (context) => {
  context.mock.timers.enable(TIMERS);
  const call = new Call();
  const room = await call.begin();
  const agent = new FakeVoice();
  room.speak(agent);
  room.fallSilent(agent);
  room.emit(RoomEvent.ParticipantDisconnected);
  room.say({ type: "session_ended" });
  await call.hear(2);
  context.mock.timers.tick(FAREWELL_MS);
  const heard = await call.hear(3);
  assert.deepEqual(heard.at(-1), { type: "disconnected", data: { reason: 1, agent_left: true } });
  await call.session.disconnect();
  context.mock.timers.runAll();
  await settled();
  assert.deepEqual(call.news(), ["session_ended", "disconnected"]);
});

test("an agent that publishes its voice anew has not gone", async (context) => {
  context.mock.timers.enable(TIMERS);
  const call = new Call();
  const room = await call.begin();
  const agent = new FakeVoice();
  room.speak(agent);
  room.fallSilent(agent);
  room.speak(new FakeVoice());
  context.mock.timers.tick(FAREWELL_MS);
  await settled();
  assert.equal(call.session.connectionState, ConnectionState.Connected);
});

test("a reconnection is told once, and gives the agent time to come back", async (context) => {
  context.mock.timers.enable(TIMERS);
  const call = new Call();
  const room = await call.begin();
  const agent = new FakeVoice();
  room.speak(agent);
  for (const comesBack of [true, false]) {
    room.fallSilent(agent);
    room.reconnecting();
    context.mock.timers.tick(FAREWELL_MS);
    room.reconnected();
    if (comesBack) room.speak(agent);
    context.mock.timers.tick(AGENT_RETURN_MS - 1);
    await settled();
    assert.equal(call.session.connectionState, ConnectionState.Connected);
  }
  context.mock.timers.tick(1);
  await call.hear(6);
  const told = ["reconnecting", "reconnected", "reconnecting", "reconnected", "disconnected"];
  assert.deepEqual(call.news(), told);
});

test("playback that flaps is told once, and start() puts it right", async (context) => {
  context.mock.timers.enable(TIMERS);
  const call = new Call();
  const room = await call.begin();
  for (const allowed of [false, true, false]) room.allowPlayback(allowed);
  context.mock.timers.tick(PLAYBACK_SETTLE_MS);
  assert.deepEqual(call.types(), ["playback_blocked"]);

  room.playbackError = new Error("NotAllowedError");
  await assert.rejects(call.session.start(), { name: "PlaybackBlockedError", code: "playback_blocked" });
  assert.deepEqual(call.types(), ["playback_blocked"]);

  room.playbackError = undefined;
  await call.session.start();
  assert.deepEqual(call.types(), ["playback_blocked", "playback_allowed"]);
  context.mock.timers.tick(PLAYBACK_SETTLE_MS);
  assert.equal(call.heard.length, 2);
});

test("playback that is blocked for a moment only is not told", async (context) => {
  context.mock.timers.enable(TIMERS);
  const call = new Call();
  const room = await call.begin();
  room.allowPlayback(false);
  room.allowPlayback(true);
  context.mock.timers.tick(PLAYBACK_SETTLE_MS);
  assert.deepEqual(call.heard, []);
});

test("playback that was blocked before the call began is told when it has begun", async (context) => {
  context.mock.timers.enable(TIMERS);
  const call = new Call();
  const connecting = call.session.connect({ token: TOKEN, url: URL_ });
  await call.room.asked();
  call.room.allowPlayback(false);
  context.mock.timers.tick(PLAYBACK_SETTLE_MS);
  assert.deepEqual(call.heard, []);
  call.room.admit();
  await connecting;
  context.mock.timers.tick(PLAYBACK_SETTLE_MS);
  assert.deepEqual(call.types(), ["playback_blocked"]);
});

test("start() tells a refusal that LiveKit has not told yet, and needs a call", async () => {
  const call = new Call();
  await assert.rejects(call.session.start(), { name: "NotConnectedError" });
  const room = await call.begin();
  room.playbackError = new Error("NotAllowedError");
  await assert.rejects(call.session.start(), { name: "PlaybackBlockedError" });
  assert.deepEqual(call.types(), ["playback_blocked"]);
});

test("LiveKit's own attempt to start the sound leaves no unhandled rejection", async () => {
  const call = new Call();
  const room = await call.begin();
  room.playbackError = new Error("NotAllowedError");
  await room.startAudio();
});
