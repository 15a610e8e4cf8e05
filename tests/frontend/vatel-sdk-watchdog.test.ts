import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { LocalAudioTrack } from "livekit-client";
import { ConnectionState } from "../../sessions_app/frontend/vatel-sdk";
import {
  GIVE_UP_LOOKS,
  LOOK_MS,
  POOR_LOOKS,
  SILENT_LOOKS,
  UNHEARD_LOOKS,
} from "../../sessions_app/frontend/vatel-sdk/watchdog";
import { FakeMedia } from "./vatel-sdk-media";
import { Call, type FakeRoom, type FakeSender, FakeVoice, settled } from "./vatel-sdk-room";

/** What arrives and what sounds in a second. */
interface Flow {
  packets?: number;
  agent?: number;
  caller?: number;
}

const SPEECH = 0.01;
const HISS = 1e-7;
const TALK = { packets: 50, agent: SPEECH, caller: SPEECH };
const DEAD = { caller: HISS };

/** A call with an agent and a microphone, on a clock that the test moves. */
class Line {
  readonly call = new Call();
  readonly voice = new FakeVoice();
  readonly media = new FakeMedia();
  readonly #context: TestContext;
  #room!: FakeRoom;
  sender: FakeSender | undefined;

  constructor(context: TestContext) {
    this.#context = context;
    context.mock.timers.enable({ apis: ["setTimeout"] });
  }

  async begin({ voice = true, microphone = true } = {}): Promise<FakeRoom> {
    this.#room = await this.call.begin();
    this.#room.enter();
    if (voice) this.#room.speak(this.voice);
    if (microphone) {
      await this.call.session.setMicrophoneTrack(this.media.asTrack());
      this.sender = this.track.sender as unknown as FakeSender;
    }
    return this.#room;
  }

  get track(): LocalAudioTrack {
    return this.#room.published[0] as LocalAudioTrack;
  }

  /** So many seconds of it. */
  async pass(seconds: number, { packets = 0, agent = 0, caller = 0 }: Flow): Promise<void> {
    for (let second = 0; second < seconds; second += 1) {
      await settled();
      const { got } = this.voice;
      const counted = this.sender?.counted ?? { packets: 0, energy: 0 };
      counted.packets += packets;
      got.packets += packets;
      if (counted.energy !== undefined) counted.energy += caller;
      if (got.energy !== undefined) got.energy += agent;
      this.#context.mock.timers.tick(LOOK_MS);
      await settled();
    }
  }

  news(): string[] {
    return this.call.news();
  }
}

function text(turn_id = "agent-1"): object {
  return { type: "response_text", data: { text: "Hello", turn_id, is_final: false } };
}

// ------------------------------------------------------------------ presence

test("the agent's presence is told once, and its voice once, also after it has come back", async (context) => {
  const line = new Line(context);
  const room = await line.begin();
  room.fallSilent(line.voice);
  room.speak(new FakeVoice());
  room.enter();
  assert.deepEqual(line.call.types(), ["agent_here", "agent_voice"]);
});

test("an agent that was there before is told when the call is joined, and not before", async () => {
  const call = new Call();
  const connecting = call.session.connect({ token: "t", url: "wss://media.example" });
  await call.room.asked();
  call.room.enter();
  call.room.speak(new FakeVoice());
  assert.deepEqual(call.types(), []);
  call.room.admit();
  await connecting;
  assert.deepEqual(call.types(), ["agent_here", "agent_voice"]);
});

test("nobody is told of an agent that never comes", async () => {
  const call = new Call();
  await call.begin();
  await settled();
  assert.deepEqual(call.types(), []);
});

// ------------------------------------------------------------------ the line

test("a line on which nothing arrives is poor after two seconds, and good again with the first packet", async (context) => {
  const line = new Line(context);
  await line.begin();
  await line.pass(5, TALK);
  await line.pass(POOR_LOOKS - 1, DEAD);
  assert.deepEqual(line.news(), []);
  await line.pass(10, DEAD);
  assert.deepEqual(line.news(), ["connection_poor"]);
  await line.pass(10, TALK);
  assert.deepEqual(line.news(), ["connection_poor", "connection_good"]);
});

test("an agent that sends nothing while it is silent leaves the line good", async (context) => {
  const line = new Line(context);
  await line.begin();
  // What the media server reports of the caller's sound.
  await line.pass(60, { packets: 1, caller: HISS });
  assert.deepEqual(line.news(), []);
});

test("without a microphone the line is not judged by its silence", async (context) => {
  const line = new Line(context);
  await line.begin({ microphone: false });
  for (let times = 0; times < 10; times += 1) {
    await line.pass(2, DEAD);
    await line.pass(1, { packets: 1 });
  }
  assert.deepEqual(line.news(), []);
});

test("a line that stays dead is left by itself, once", async (context) => {
  const line = new Line(context);
  const room = await line.begin();
  await line.pass(5, TALK);
  await line.pass(GIVE_UP_LOOKS - 1, DEAD);
  assert.equal(line.call.session.connectionState, ConnectionState.Connected);
  await line.pass(5, DEAD);
  assert.deepEqual(line.news(), ["connection_poor", "disconnected"]);
  assert.deepEqual(line.call.heard.at(-1)?.data, { reason: 1, gave_up: true });
  assert.equal(room.disconnects, 1);
  assert.equal(line.media.readyState, "ended");
});

test("a dead line that tries one pair of addresses after the other stays dead", async (context) => {
  const line = new Line(context);
  await line.begin();
  await line.pass(5, TALK);
  for (let looks = 0; looks < GIVE_UP_LOOKS; looks += 1) {
    assert.ok(line.sender);
    if (looks % 5 === 0) line.sender.pair = line.sender.pair === "a" ? "b" : "a";
    await line.pass(1, DEAD);
  }
  assert.deepEqual(line.news(), ["connection_poor", "disconnected"]);
});

test("answers to connectivity checks alone keep a call alive", async (context) => {
  const line = new Line(context);
  await line.begin();
  for (let times = 0; times < 20; times += 1) {
    assert.ok(line.sender);
    line.sender.answers.a = (line.sender.answers.a ?? 0) + 1;
    await line.pass(5, DEAD);
  }
  assert.equal(line.call.session.connectionState, ConnectionState.Connected);
});

test("a reconnection that leads nowhere is left too, counted from the last packet", async (context) => {
  const line = new Line(context);
  const room = await line.begin();
  await line.pass(5, TALK);
  await line.pass(15, DEAD);
  room.reconnecting();
  // LiveKit takes the tracks off the connection that it closes.
  room.fallSilent(line.voice);
  line.track.sender = undefined;
  await line.pass(GIVE_UP_LOOKS - 15 - 1, DEAD);
  assert.deepEqual(line.news(), ["connection_poor", "reconnecting"]);
  await line.pass(1, DEAD);
  assert.deepEqual(line.news(), ["connection_poor", "reconnecting", "disconnected"]);
  assert.equal(line.call.heard.at(-1)?.data.gave_up, true);
});

test("a black hole whose good-bye never ends is left all the same, and the next call is not held up", async (context) => {
  const line = new Line(context);
  const room = await line.begin();
  room.isStuck = true;
  await line.pass(3, TALK);
  room.reconnecting();
  await line.pass(GIVE_UP_LOOKS + 5, DEAD);
  assert.deepEqual(line.news(), ["reconnecting", "disconnected"]);
  assert.equal(line.call.heard.at(-1)?.data.gave_up, true);
  await line.call.begin();
  assert.equal(line.call.session.connectionState, ConnectionState.Connected);
});

test("while the signalling alone reconnects, sound keeps the call alive", async (context) => {
  const line = new Line(context);
  const room = await line.begin();
  room.reconnecting();
  await line.pass(2 * GIVE_UP_LOOKS, TALK);
  assert.deepEqual(line.news(), ["reconnecting"]);
});

test("a reconnection begins the count anew", async (context) => {
  const line = new Line(context);
  const room = await line.begin();
  await line.pass(3, TALK);
  for (let times = 0; times < 3; times += 1) {
    room.reconnecting();
    await line.pass(GIVE_UP_LOOKS - 1, DEAD);
    room.reconnected();
  }
  await line.pass(3, TALK);
  assert.equal(line.call.session.connectionState, ConnectionState.Connected);
  assert.ok(!line.news().includes("connection_poor"), String(line.news()));
});

test("a page that slept for hours does not take it for a dead line", async (context) => {
  const line = new Line(context);
  await line.begin();
  await line.pass(5, TALK);
  for (let times = 0; times < 30; times += 1) {
    // A timer that was held back fires once; nothing can have arrived in the meantime.
    await line.pass(1, DEAD);
    await line.pass(1, TALK);
  }
  assert.deepEqual(line.news(), []);
});

test("measurements that hang or fail tell nothing, and stop nothing", async (context) => {
  const line = new Line(context);
  await line.begin();
  await line.pass(3, TALK);
  assert.ok(line.sender);
  line.sender.isStuck = true;
  await line.pass(2 * GIVE_UP_LOOKS, TALK);
  assert.deepEqual(line.news(), []);
  await line.call.session.disconnect();
  assert.deepEqual(line.news(), ["disconnected"]);
});

test("a reconnection during which nothing can be measured is left after the same time", async (context) => {
  const line = new Line(context);
  const room = await line.begin();
  await line.pass(3, TALK);
  room.reconnecting();
  assert.ok(line.sender);
  line.sender.isStuck = true;
  await line.pass(GIVE_UP_LOOKS + 1, DEAD);
  assert.deepEqual(line.news(), ["reconnecting", "disconnected"]);
});

test("nothing is told after the end, also by a measurement that was under way", async (context) => {
  const line = new Line(context);
  await line.begin();
  await line.pass(3, TALK);
  await line.pass(POOR_LOOKS - 1, DEAD);
  context.mock.timers.tick(LOOK_MS);
  await line.call.session.disconnect();
  await line.pass(10, DEAD);
  assert.deepEqual(line.news(), ["disconnected"]);
});

// ------------------------------------------------------------------ the microphone

test("a microphone without any noise is told after five seconds, and when it is heard", async (context) => {
  const line = new Line(context);
  await line.begin();
  await line.pass(5, TALK);
  await line.pass(SILENT_LOOKS - 1, { packets: 50 });
  assert.deepEqual(line.news(), []);
  await line.pass(10, { packets: 50 });
  assert.deepEqual(line.news(), ["microphone_silent"]);
  await line.pass(3, { packets: 50, caller: HISS });
  assert.deepEqual(line.news(), ["microphone_silent", "microphone_heard"]);
});

test("somebody who only listens in a quiet room has a microphone that works", async (context) => {
  const line = new Line(context);
  await line.begin();
  await line.pass(60, { packets: 50, caller: HISS });
  assert.deepEqual(line.news(), []);
});

test("a mute by the page is no silence, however often it changes", async (context) => {
  const line = new Line(context);
  await line.begin();
  await line.call.session.setMicrophoneEnabled(false);
  await line.pass(20, { packets: 50 });
  for (let times = 0; times < 20; times += 1) {
    await line.call.session.setMicrophoneEnabled(true);
    await line.pass(1, { packets: 50 });
    await line.call.session.setMicrophoneEnabled(false);
    await line.pass(1, { packets: 50 });
  }
  assert.deepEqual(line.news(), []);
});

test("a dead microphone is noticed by somebody who holds a key to talk, too", async (context) => {
  const line = new Line(context);
  await line.begin();
  for (let times = 0; times < 5; times += 1) {
    await line.call.session.setMicrophoneEnabled(true);
    await line.pass(3, { packets: 50 });
    await line.call.session.setMicrophoneEnabled(false);
    await line.pass(3, { packets: 50 });
  }
  assert.deepEqual(line.news(), ["microphone_silent"]);
});

test("another microphone has five seconds of its own", async (context) => {
  const line = new Line(context);
  await line.begin();
  await line.pass(2, TALK);
  await line.pass(SILENT_LOOKS - 1, { packets: 50 });
  await line.call.session.setMicrophoneTrack(new FakeMedia().asTrack());
  await line.pass(SILENT_LOOKS - 1, { packets: 50 });
  assert.deepEqual(line.news(), []);
  await line.pass(3, { packets: 50 });
  assert.deepEqual(line.news(), ["microphone_silent"]);
});

test("a microphone that is known to be lost is not called silent as well", async (context) => {
  const line = new Line(context);
  await line.begin();
  await line.pass(2, TALK);
  await line.track.mute(); // as LiveKit does when the device ends and there is no other
  await line.pass(20, { packets: 50 });
  assert.deepEqual(line.news(), ["microphone_lost"]);
});

test("a browser that measures no energy raises no alarm", async (context) => {
  const line = new Line(context);
  const room = await line.begin();
  assert.ok(line.sender);
  line.sender.counted.energy = undefined;
  line.voice.got.energy = undefined;
  room.say(text());
  await line.pass(20, { packets: 50 });
  assert.deepEqual(line.news(), ["response_text"]);
});

// ------------------------------------------------------------------ the agent's sound

test("an agent that writes but makes no sound is told after five seconds, and when it is heard", async (context) => {
  const line = new Line(context);
  const room = await line.begin();
  await line.pass(10, { packets: 50, caller: HISS });
  room.say(text());
  await line.pass(UNHEARD_LOOKS - 1, { packets: 50, caller: HISS });
  room.say(text());
  assert.deepEqual(line.news(), ["response_text"]);
  await line.pass(5, { packets: 50, caller: HISS });
  assert.deepEqual(line.news(), ["response_text", "response_text", "agent_unheard"]);
  await line.pass(1, TALK);
  assert.equal(line.news().at(-1), "agent_heard");
});

test("an agent that writes and has no voice at all is unheard", async (context) => {
  const line = new Line(context);
  const room = await line.begin({ voice: false });
  await line.pass(2, { packets: 1, caller: HISS });
  room.say(text());
  await line.pass(UNHEARD_LOOKS, { packets: 1, caller: HISS });
  assert.deepEqual(line.news(), ["response_text", "agent_unheard"]);
});

test("a text that comes after the agent's last sound, or after the caller cut in, is not missed", async (context) => {
  const line = new Line(context);
  const room = await line.begin();
  await line.pass(2, { packets: 50, caller: HISS });
  room.say(text());
  await line.pass(2, TALK);
  room.say(text());
  await line.pass(20, { packets: 50, caller: HISS });
  room.say({ type: "speech_started" });
  room.say(text());
  await line.pass(20, { packets: 50, caller: SPEECH });
  assert.ok(!line.news().includes("agent_unheard"), String(line.news()));
});

test("each reply is listened for anew", async (context) => {
  const line = new Line(context);
  const room = await line.begin();
  await line.pass(1, TALK);
  room.say(text("agent-1"));
  await line.pass(5, TALK);
  room.say({ type: "speech_started" });
  await line.pass(2, { packets: 50, caller: SPEECH });
  room.say({ type: "speech_stopped" });
  await line.pass(1, { packets: 50, caller: HISS });
  room.say(text("agent-2"));
  await line.pass(UNHEARD_LOOKS, { packets: 50, caller: HISS });
  assert.equal(line.news().at(-1), "agent_unheard");
});

test("while nothing arrives, the agent is not called silent", async (context) => {
  const line = new Line(context);
  const room = await line.begin();
  await line.pass(2, { packets: 50, caller: HISS });
  room.say(text());
  await line.pass(GIVE_UP_LOOKS - 1, DEAD);
  assert.deepEqual(line.news(), ["response_text", "connection_poor"]);
});

test("what the browser held back is not the agent's silence, then or later", async (context) => {
  const line = new Line(context);
  const room = await line.begin();
  await line.pass(2, { packets: 50, caller: HISS });
  room.say(text());
  room.allowPlayback(false);
  await line.pass(20, { packets: 50, caller: HISS });
  room.allowPlayback(true);
  await line.pass(20, { packets: 50, caller: HISS });
  assert.deepEqual(line.news(), ["response_text", "playback_blocked", "playback_allowed"]);
});
