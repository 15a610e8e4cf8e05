/** A call in a world that does what the test says. */

import assert from "node:assert/strict";
import { Call } from "../../sessions_app/frontend/call";
import type { CallEvent, VoiceSession } from "../../sessions_app/frontend/call-state";
import type { Data, Entry, WireMessage } from "../../sessions_app/frontend/events";
import type { Credential } from "../../sessions_app/frontend/mint";
import { FakeClock } from "./fakes";

export const CREDENTIAL: Credential = {
  session: "session-1",
  relay_url: "/ws/sessions/session-1/",
  webrtc_token: "token",
  url: "ws://127.0.0.1:7880",
  room: "call-1",
  identity: "caller-1",
};

/** A microphone track, as far as the call can tell. */
export class FakeTrack {
  readyState: "live" | "ended" = "live";
  readonly deviceId: string | undefined;

  constructor(deviceId?: string) {
    this.deviceId = deviceId;
  }

  stop(): void {
    this.readyState = "ended";
  }
}

/** The SDK's session: it does what the test says, and keeps what the call asked of it. */
export class FakeSession {
  isConnected = false;
  isMicrophoneOn = true;
  microphone: unknown;
  speaker = "";
  token = "";
  outputs: [string, string][] = [];
  connecting: () => Promise<void> = async () => undefined;
  sending: () => Promise<void> = async () => undefined;
  /** What the browser says to a change of the microphone or the speaker. */
  switching: () => Promise<void> = async () => undefined;
  #handlers = new Set<(message: WireMessage) => void>();

  on(_type: string, handler: (message: never) => unknown): () => void {
    this.#handlers.add(handler as never);
    return () => this.#handlers.delete(handler as never);
  }

  get microphoneTrack(): unknown {
    return this.microphone;
  }

  async connect({ token }: { token: string }): Promise<{ room: string }> {
    this.token = token;
    await this.connecting();
    this.isConnected = true;
    return { room: "call-1" };
  }

  async start(): Promise<void> {}

  async setMicrophoneTrack(track: FakeTrack): Promise<void> {
    try {
      await this.switching();
    } catch (error) {
      track.stop();
      throw error;
    }
    (this.microphone as FakeTrack | undefined)?.stop();
    this.microphone = track;
  }

  async setMicrophoneEnabled(isOn: boolean): Promise<void> {
    await this.switching();
    this.isMicrophoneOn = isOn;
  }

  async setSpeaker(id: string): Promise<void> {
    await this.switching();
    this.speaker = id;
  }

  async sendToolCallOutput(id: string, output: string): Promise<void> {
    await this.sending();
    this.outputs.push([id, output]);
  }

  async disconnect(): Promise<void> {
    this.isConnected = false;
  }

  tell(type: string, data: Data = {}): void {
    for (const handler of this.#handlers) handler({ type, data });
  }
}

export function deferred<T>() {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((res, rej) => {
    resolve = res;
    reject = rej;
  });
  return { promise, resolve, reject };
}

/** What the SDK throws when it cannot join. */
export function connectError(code: string): Error {
  return Object.assign(new Error("…"), { name: "VatelConnectError", code });
}

/** Makes a session that cannot join. */
export function refuseToJoin(code: string) {
  return (session: FakeSession): void => {
    session.connecting = () => Promise.reject(connectError(code));
  };
}

export interface World {
  /** Whether the browser gives the microphone without asking. */
  isGranted: boolean;
  grant: () => Promise<void>;
  mint: () => Promise<Credential>;
  load: () => Promise<void>;
  prepare: (session: FakeSession) => void;
  /** Another tab has a call. */
  isElsewhere: boolean;
}

/** A call whose outside world is quick and kind, unless the test replaces a part of it. */
export function setUp() {
  const clock = new FakeClock();
  const tracks: FakeTrack[] = [];
  const sessions: FakeSession[] = [];
  const states: string[] = [];
  const said: string[] = [];
  const opened: string[] = [];
  const closed: string[] = [];
  const log: Entry[] = [];
  const meter: unknown[] = [];
  const tools: { name: string; took_ms: number | undefined }[] = [];
  let minted = 0;
  const lock = { isHeld: false, lose: () => {} };
  const world: World = {
    isGranted: false,
    grant: async () => undefined,
    mint: async () => {
      minted += 1;
      return { ...CREDENTIAL, session: `session-${minted}` };
    },
    load: async () => undefined,
    prepare: () => undefined,
    isElsewhere: false,
  };
  const call = new Call({
    clock,
    lock: {
      take: async (here, onLost) => {
        if (world.isElsewhere && !here) return false;
        lock.isHeld = true;
        lock.lose = onLost;
        return true;
      },
      release: () => {
        lock.isHeld = false;
      },
    },
    isMicrophoneGranted: async () => world.isGranted,
    openMicrophone: async (deviceId) => {
      await world.grant();
      const track = new FakeTrack(deviceId);
      tracks.push(track);
      return track as unknown as MediaStreamTrack;
    },
    mint: () => world.mint(),
    loadSdk: async () => {
      await world.load();
      return () => {
        const session = new FakeSession();
        world.prepare(session);
        sessions.push(session);
        return session as unknown as VoiceSession;
      };
    },
    tools: {
      set_theme: ({ theme }) => ({ theme }),
      broken: () => {
        throw new Error("a defect");
      },
    },
    emit: (event: CallEvent) => {
      if (event.kind === "state") states.push(event.state.name);
      if (event.kind === "microphone") meter.push(event.track);
      if (event.kind === "tool" && event.output !== undefined) {
        tools.push({ name: event.call.name, took_ms: event.took_ms });
      }
      if (event.kind === "said") said.push(event.say.text);
      if (event.kind === "opened") opened.push(event.credential.session);
      if (event.kind === "closed") closed.push(event.session);
      if (event.kind === "entry") {
        assert.deepEqual(opened.includes(event.session), true, "entries follow the opening of their log");
        assert.equal(closed.includes(event.session), false, "nothing comes after the end of the log");
        log.push(event.entry);
      }
    },
  });
  return {
    clock,
    call,
    world,
    states,
    said,
    opened,
    closed,
    log,
    lock,
    tools,
    logged: () => log.map(({ type }) => type),
    entry: (type: string) => log.find((entry) => entry.type === type),
    notices: () => (call.state.name === "live" ? call.state.notices.map(({ code }) => code) : []),
    get session() {
      return sessions.at(-1) as FakeSession;
    },
    sessions,
    tracks,
    /** A track that the session gets by itself. */
    openTrack() {
      const track = new FakeTrack();
      tracks.push(track);
      return track;
    },
    /** What the level meter shows. */
    get metered() {
      return meter.at(-1);
    },
    /** Nothing that listens or costs is left. */
    assertClosed() {
      assert.deepEqual(
        tracks.map(({ readyState }) => readyState),
        tracks.map(() => "ended"),
      );
      assert.deepEqual(
        sessions.map(({ isConnected }) => isConnected),
        sessions.map(() => false),
      );
      assert.deepEqual(closed, opened);
      assert.equal(lock.isHeld, false);
      assert.equal(meter.at(-1) ?? null, null);
    },
  };
}

export async function live() {
  const it = setUp();
  await it.call.start();
  it.session.tell("session_started", { id: "call-1" });
  it.session.tell("agent_voice");
  return it;
}

export const tool = (toolCallId: string, toolName: string, args: Data = {}) => ({
  toolCallId,
  toolName,
  arguments: Object.entries(args).map(([name, value]) => ({ name, value })),
});
