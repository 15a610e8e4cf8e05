/** Microphones, and a browser that gives them. */

import type { TestContext } from "node:test";

/** What the browser gives for a microphone. LiveKit's own LocalAudioTrack, the real one, works on it. */
export class FakeMedia extends EventTarget {
  readonly kind = "audio";
  readonly label: string;
  readyState: "live" | "ended" = "live";
  enabled = true;
  muted = false;

  constructor(label = "Desk microphone") {
    super();
    this.label = label;
  }

  getConstraints(): object {
    return {};
  }

  getSettings(): object {
    return {};
  }

  stop(): void {
    this.readyState = "ended";
  }

  /** Unplugged, or the permission is withdrawn. */
  end(): void {
    this.readyState = "ended";
    this.dispatchEvent(new Event("ended"));
  }

  /** The switch on the device. */
  switch(isOn: boolean): void {
    this.muted = !isOn;
    this.dispatchEvent(new Event(isOn ? "unmute" : "mute"));
  }

  asTrack(): MediaStreamTrack {
    return this as unknown as MediaStreamTrack;
  }
}

/** A browser that answers each getUserMedia with the next of `answers`. */
export function browserGives(
  context: TestContext,
  ...answers: (FakeMedia | Error | Promise<FakeMedia>)[]
): unknown[] {
  const asked: unknown[] = [];
  const getUserMedia = async (constraints: unknown) => {
    asked.push(constraints);
    const answer = await answers.shift();
    if (!answer || answer instanceof Error) throw answer ?? new Error("asked too often");
    return { getAudioTracks: () => [answer], getTracks: () => [answer] };
  };
  const before = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  Object.defineProperty(globalThis, "navigator", {
    value: { mediaDevices: { getUserMedia }, userAgent: "test" },
    configurable: true,
  });
  context.after(() => {
    if (before) Object.defineProperty(globalThis, "navigator", before);
    else Reflect.deleteProperty(globalThis, "navigator");
  });
  return asked;
}
