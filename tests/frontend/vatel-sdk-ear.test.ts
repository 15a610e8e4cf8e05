import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Call, FakeVoice, settled } from "./vatel-sdk-room";

const RATE = 48_000;
const SPEECH = 0.1;
const HISS = 0.001;

/** The browser's measuring: what the agent's track has brought, on a clock that the test moves. */
class Sound {
  now = 1_000;
  /** Loudness by the time (ms) from which it holds. */
  readonly #levels: [from: number, level: number][] = [[0, HISS]];
  contexts = 0;
  isClosed = false;

  constructor(context: TestContext) {
    context.mock.timers.enable({ apis: ["setTimeout"] });
    context.mock.method(performance, "now", () => this.now);
    const sound = this;
    class FakeAudioContext {
      readonly sampleRate = RATE;
      constructor() {
        sound.contexts += 1;
      }
      createAnalyser() {
        return { getFloatTimeDomainData: (samples: Float32Array) => sound.#fill(samples) };
      }
      createMediaStreamSource() {
        return { connect: () => undefined, disconnect: () => undefined };
      }
      async resume() {}
      async close() {
        sound.isClosed = true;
      }
    }
    Object.assign(globalThis, { AudioContext: FakeAudioContext });
    context.after(() => Reflect.deleteProperty(globalThis, "AudioContext"));
  }

  /** From now on. */
  become(level: number): void {
    this.#levels.push([this.now, level]);
  }

  /** Time goes by, evenly. */
  async pass(context: TestContext, ms: number): Promise<void> {
    for (let i = 0; i < ms; i += 10) {
      this.now += 10;
      context.mock.timers.tick(10);
    }
    await settled();
  }

  #fill(samples: Float32Array): void {
    for (let i = 0; i < samples.length; i += 1) {
      const at = this.now - ((samples.length - i) / RATE) * 1000;
      const level = this.#levels.findLast(([from]) => from <= at)?.[1] ?? 0;
      samples[i] = i % 2 ? level : -level;
    }
  }
}

/** When each reply became audible, on the page's clock. */
function replies(call: Call, sound: Sound): number[] {
  const times: number[] = [];
  call.session.on("reply_audible", ({ data }) => times.push(sound.now - data.ago_ms));
  return times;
}

function near(found: number[], wanted: number[]): void {
  assert.equal(found.length, wanted.length, String(found));
  for (const [i, time] of found.entries())
    assert.ok(Math.abs(time - (wanted[i] as number)) <= 30, `${found} is not ${wanted}`);
}

test("the greeting and each reply are told once, at their first sound", async (context) => {
  const sound = new Sound(context);
  const call = new Call();
  const times = replies(call, sound);
  const room = await call.begin();
  room.speak(new FakeVoice());
  await sound.pass(context, 730);
  const greeting = sound.now;
  sound.become(SPEECH);
  await sound.pass(context, 2_000);
  sound.become(HISS);
  await sound.pass(context, 1_000);
  room.say({ type: "speech_started" });
  await sound.pass(context, 1_000);
  room.say({ type: "speech_stopped" });
  await sound.pass(context, 650);
  const reply = sound.now;
  sound.become(SPEECH);
  await sound.pass(context, 3_000);
  near(times, [greeting, reply]);
  assert.equal(sound.contexts, 1);
  await call.session.disconnect();
  assert.equal(sound.isClosed, true);
});

test("an agent that talks on while the caller ends is not heard as a reply", async (context) => {
  const sound = new Sound(context);
  const call = new Call();
  const room = await call.begin();
  room.speak(new FakeVoice());
  sound.become(SPEECH);
  await sound.pass(context, 500);
  const times = replies(call, sound);
  room.say({ type: "speech_stopped" });
  await sound.pass(context, 500);
  sound.become(HISS);
  await sound.pass(context, 500);
  sound.become(SPEECH);
  await sound.pass(context, 500);
  near(times, []);
});

test("a caller who speaks on takes back the question", async (context) => {
  const sound = new Sound(context);
  const call = new Call();
  const times = replies(call, sound);
  const room = await call.begin();
  room.say({ type: "speech_stopped" });
  room.speak(new FakeVoice());
  room.say({ type: "speech_started" });
  await settled();
  sound.become(SPEECH);
  await sound.pass(context, 500);
  near(times, []);
});

test("what the browser does not play is not audible", async (context) => {
  const sound = new Sound(context);
  const call = new Call();
  const times = replies(call, sound);
  const room = await call.begin();
  room.allowPlayback(false);
  room.speak(new FakeVoice());
  await sound.pass(context, 200);
  sound.become(SPEECH);
  await sound.pass(context, 500);
  near(times, []);
});

test("a page that stood still while the reply began does not guess when", async (context) => {
  const sound = new Sound(context);
  const call = new Call();
  const times = replies(call, sound);
  const room = await call.begin();
  room.speak(new FakeVoice());
  await sound.pass(context, 300);
  sound.become(SPEECH);
  sound.now += 5_000;
  await sound.pass(context, 500);
  near(times, []);
});

test("a browser that cannot measure still makes the call", async (context) => {
  const sound = new Sound(context);
  context.mock.method(console, "warn", () => undefined);
  Object.assign(globalThis, {
    AudioContext: class {
      constructor() {
        throw new DOMException("no audio device", "NotSupportedError");
      }
    },
  });
  const call = new Call();
  const room = await call.begin();
  room.speak(new FakeVoice());
  room.say({ type: "speech_stopped" });
  room.say({ type: "session_ended" });
  await sound.pass(context, 100);
  assert.deepEqual(call.news(), ["speech_stopped", "session_ended"]);
});
