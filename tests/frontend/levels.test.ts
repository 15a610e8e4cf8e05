import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Levels } from "../../sessions_app/frontend/levels";
import { replaceGlobals } from "./fake-document";

/** A track that sounds with a sine of this amplitude. */
class FakeTrack {
  readyState: "live" | "ended" = "live";
  amplitude: number;

  constructor(amplitude: number) {
    this.amplitude = amplitude;
  }

  asTrack(): MediaStreamTrack {
    return this as unknown as MediaStreamTrack;
  }
}

class FakeStream {
  readonly tracks: FakeTrack[];

  constructor(tracks: FakeTrack[]) {
    this.tracks = tracks;
  }

  getAudioTracks(): FakeTrack[] {
    return this.tracks;
  }
}

/** The part of a browser that measures sound, and the gestures that it may wait for. */
class FakeBrowser extends EventTarget {
  contexts: { state: AudioContextState; sources: number }[] = [];
  isHoldingBack = false;
  isRefusing = false;
  readonly audios: { srcObject: unknown }[] = [];

  constructor(context: TestContext) {
    super();
    const browser = this;

    class FakeContext {
      state: AudioContextState = browser.isHoldingBack ? "suspended" : "running";
      sources = 0;

      constructor() {
        if (browser.isRefusing) throw new DOMException("too many", "NotSupportedError");
        browser.contexts.push(this);
      }

      createAnalyser() {
        const inputs = new Set<FakeTrack>();
        return {
          inputs,
          getFloatTimeDomainData(samples: Float32Array) {
            const amplitude = [...inputs].reduce((sum, track) => sum + track.amplitude, 0);
            for (const index of samples.keys()) samples[index] = amplitude * Math.sin(index / 5);
          },
        };
      }

      createMediaStreamSource({ tracks }: FakeStream) {
        const owner = this;
        let leave = () => {};
        return {
          connect({ inputs }: { inputs: Set<FakeTrack> }) {
            owner.sources += 1;
            for (const track of tracks) inputs.add(track);
            leave = () => {
              owner.sources -= 1;
              for (const track of tracks) inputs.delete(track);
            };
          },
          disconnect: () => leave(),
        };
      }

      async resume() {
        if (browser.isHoldingBack) throw new DOMException("no gesture", "NotAllowedError");
        this.state = "running";
      }

      async close() {
        this.state = "closed";
      }
    }

    replaceGlobals(context, {
      AudioContext: FakeContext,
      MediaStream: FakeStream,
      addEventListener: this.addEventListener.bind(this),
    });
  }

  levels(): Levels {
    return new Levels({ querySelectorAll: () => this.audios } as unknown as HTMLElement);
  }

  /** The agent's voice begins to play. */
  play(track: FakeTrack): void {
    this.audios.push({ srcObject: new FakeStream([track]) });
  }
}

test("silence is 0, a loud voice is 1, and what lies between grows with the loudness", (context) => {
  const browser = new FakeBrowser(context);
  const levels = browser.levels();
  const voice = new FakeTrack(0);
  levels.setMicrophone(voice.asTrack());
  const seen = [0, 0.0005, 0.01, 0.05, 0.2, 1].map((amplitude) => {
    voice.amplitude = amplitude;
    return levels.read().caller;
  });
  assert.deepEqual(
    seen,
    [...seen].sort((a, b) => a - b),
  );
  assert.equal(seen[0], 0);
  assert.equal(seen[1], 0);
  assert.ok((seen[2] ?? 0) > 0.2 && (seen[3] ?? 1) < 0.8);
  assert.equal(seen[5], 1);
});

test("each side is measured by itself", (context) => {
  const browser = new FakeBrowser(context);
  const levels = browser.levels();
  levels.setMicrophone(new FakeTrack(0.1).asTrack());
  assert.equal(levels.read().agent, 0);
  browser.play(new FakeTrack(0.02));
  const { caller, agent } = levels.read();
  assert.ok(caller > agent && agent > 0);
});

test("the agent is heard though there is no microphone", (context) => {
  const browser = new FakeBrowser(context);
  const levels = browser.levels();
  assert.deepEqual(levels.read(), { caller: 0, agent: 0 });
  assert.equal(browser.contexts.length, 0);
  browser.play(new FakeTrack(0.1));
  assert.ok(levels.read().agent > 0);
});

test("another microphone takes the place of the first, and none is silence", (context) => {
  const browser = new FakeBrowser(context);
  const levels = browser.levels();
  levels.setMicrophone(new FakeTrack(0.5).asTrack());
  const loud = levels.read().caller;
  levels.setMicrophone(new FakeTrack(0.01).asTrack());
  assert.ok(levels.read().caller < loud);
  levels.setMicrophone(null);
  assert.equal(levels.read().caller, 0);
  assert.equal(browser.contexts[0]?.sources, 0);
});

test("a track that ends, and an element that stops playing, are let go", (context) => {
  const browser = new FakeBrowser(context);
  const levels = browser.levels();
  const microphone = new FakeTrack(0.5);
  levels.setMicrophone(microphone.asTrack());
  browser.play(new FakeTrack(0.5));
  levels.read();
  assert.equal(browser.contexts[0]?.sources, 2);
  microphone.readyState = "ended";
  browser.audios.splice(0, 1, { srcObject: null });
  assert.deepEqual(levels.read(), { caller: 0, agent: 0 });
  assert.equal(browser.contexts[0]?.sources, 0);
});

test("measuring that the browser holds back begins with the next gesture", async (context) => {
  const browser = new FakeBrowser(context);
  browser.isHoldingBack = true;
  const levels = browser.levels();
  levels.setMicrophone(new FakeTrack(0.5).asTrack());
  assert.equal(levels.read().caller, 0);
  browser.dispatchEvent(new Event("click"));
  assert.equal(levels.read().caller, 0);
  browser.isHoldingBack = false;
  browser.dispatchEvent(new Event("keydown"));
  assert.ok(levels.read().caller > 0);
});

test("where the browser refuses to measure, all is quiet, and it is asked once", (context) => {
  const browser = new FakeBrowser(context);
  const warnings = context.mock.method(console, "warn", () => {});
  browser.isRefusing = true;
  const levels = browser.levels();
  levels.setMicrophone(new FakeTrack(0.5).asTrack());
  browser.play(new FakeTrack(0.5));
  for (let frame = 0; frame < 3; frame += 1) assert.deepEqual(levels.read(), { caller: 0, agent: 0 });
  assert.equal(warnings.mock.callCount(), 1);
  levels.close();
});

test("when it is closed nothing is held any more, and nothing comes back", (context) => {
  const browser = new FakeBrowser(context);
  const levels = browser.levels();
  levels.setMicrophone(new FakeTrack(0.5).asTrack());
  levels.read();
  levels.close();
  assert.equal(browser.contexts[0]?.state, "closed");
  browser.play(new FakeTrack(0.5));
  levels.setMicrophone(new FakeTrack(0.5).asTrack());
  browser.dispatchEvent(new Event("click"));
  assert.deepEqual(levels.read(), { caller: 0, agent: 0 });
  assert.equal(browser.contexts.length, 1);
});
