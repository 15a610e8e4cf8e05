/** A LiveKit room without a network: what `WebRTCSession` uses of one, with the far side's moves as methods. */

import { EventEmitter } from "node:events";
import { afterEach } from "node:test";
import {
  ConnectionError,
  ConnectionState,
  DisconnectReason,
  type LocalTrack,
  type Room,
  RoomEvent,
  type Track,
} from "livekit-client";
import { type SessionOptions, WebRTCSession } from "../../sessions_app/frontend/vatel-sdk";

/** Hears of the page's own end. */
export const page = new EventTarget();

Object.assign(globalThis, {
  RTCPeerConnection: class {},
  MediaStream: class {},
  addEventListener: page.addEventListener.bind(page),
  removeEventListener: page.removeEventListener.bind(page),
});

/** The token and address of the tests: no error may quote them. */
export const TOKEN = "eyJhbGciOiJIUzI1NiJ9.secret.signature";
export const URL_ = "wss://media.example/secret-path";

export class FakeElement {
  /** The devices that there are; "" is the system's. */
  static speakers = [""];
  autoplay = false;
  sinkId = "";
  readonly attributes = new Map<string, string>();
  parent: FakeContainer | undefined;

  setAttribute(name: string, value: string): void {
    this.attributes.set(name, value);
  }

  async setSinkId(id: string): Promise<void> {
    if (!FakeElement.speakers.includes(id))
      throw new DOMException("Requested device not found", "NotFoundError");
    this.sinkId = id;
  }

  remove(): void {
    this.parent?.children.delete(this);
    this.parent = undefined;
  }
}

Object.assign(globalThis, { Audio: FakeElement });

export class FakeContainer {
  readonly children = new Set<FakeElement>();

  append(element: FakeElement): void {
    this.children.add(element);
    element.parent = this;
  }
}

/** The agent's voice, as LiveKit hands it over. */
export class FakeVoice {
  readonly kind = "audio";
  readonly mediaStreamTrack = {};
  readonly element = new FakeElement();
  /** What has been received of it; `energy` is undefined where the browser does not measure. */
  readonly got: { packets: number; energy: number | undefined } = { packets: 0, energy: 0 };

  attach(): FakeElement {
    return this.element;
  }

  async getRTCStatsReport(): Promise<Map<string, object>> {
    const { packets: packetsReceived, energy: totalAudioEnergy } = this.got;
    return new Map([["v", { type: "inbound-rtp", packetsReceived, totalAudioEnergy }]]);
  }
}

/** What sends the microphone, and counts. */
export class FakeSender {
  readonly transport = { state: "connected" };
  track: MediaStreamTrack | null;
  /** Of everything that the media server sent, and of the microphone's sound. */
  readonly counted: { packets: number; energy: number | undefined } = { packets: 0, energy: 0 };
  /** The pair of addresses in use, and the answers that each pair has got. */
  pair = "a";
  readonly answers: Record<string, number> = { a: 6, b: 1 };
  isStuck = false;

  constructor(track: MediaStreamTrack) {
    this.track = track;
  }

  async replaceTrack(track: MediaStreamTrack | null): Promise<void> {
    this.track = track;
  }

  async getStats(): Promise<Map<string, object>> {
    if (this.isStuck) return new Promise(() => undefined);
    const { packets: packetsReceived, energy: totalAudioEnergy } = this.counted;
    const report = new Map<string, object>([
      ["t", { type: "transport", packetsReceived }],
      [this.pair, { type: "candidate-pair", responsesReceived: this.answers[this.pair] }],
    ]);
    if (totalAudioEnergy !== undefined) report.set("m", { type: "media-source", totalAudioEnergy });
    return report;
  }
}

/** A text stream that the agent has opened and writes chunk by chunk. */
export class AgentStream {
  readonly stream: ReadableStream<string>;
  #controller!: ReadableStreamDefaultController<string>;

  constructor() {
    this.stream = new ReadableStream({
      start: (controller) => {
        this.#controller = controller;
      },
    });
  }

  write(text: string): this {
    this.#controller.enqueue(text);
    return this;
  }

  close(): void {
    this.#controller.close();
  }

  cut(): void {
    this.#controller.error(new Error("the sender went away"));
  }
}

export class FakeRoom extends EventEmitter {
  state = ConnectionState.Disconnected;
  name = "call-1";
  canPlaybackAudio = true;
  playbackError: Error | undefined;
  publishError: Error | undefined;
  connects = 0;
  disconnects = 0;
  readonly remoteParticipants = new Map<string, object>();
  published: LocalTrack[] = [];
  speaker = "";
  /** A good-bye that never comes to an end. */
  isStuck = false;
  readonly sent: string[] = [];
  readonly localParticipant = {
    publishTrack: async (track: LocalTrack, { source }: { source: Track.Source }) => {
      if (this.publishError) throw this.publishError;
      track.source = source;
      track.sender = new FakeSender(track.mediaStreamTrack) as unknown as RTCRtpSender;
      this.published.push(track);
    },
    getTrackPublication: (source: Track.Source) => this.published.find((track) => track.source === source),
    sendText: async (text: string, { topic }: { topic: string }) => {
      await new Promise(setImmediate);
      this.sent.push(`${topic}: ${text}`);
    },
  };
  #handler: ((stream: AsyncIterable<string>) => void) | undefined;
  #join: { resolve(): void; reject(error: unknown): void } | undefined;
  readonly #streams = new Set<AgentStream>();
  readonly #voices = new Set<FakeVoice>();

  registerTextStreamHandler(_topic: string, handler: (stream: AsyncIterable<string>) => void): void {
    this.#handler = handler;
  }

  connect(_url: string, _token: string): Promise<void> {
    this.connects += 1;
    this.state = ConnectionState.Connecting;
    const joining = new Promise<void>((resolve, reject) => {
      this.#join = { resolve, reject };
    });
    this.emit("asked");
    return joining;
  }

  async switchActiveDevice(_kind: MediaDeviceKind, id: string): Promise<void> {
    if (!("setSinkId" in FakeElement.prototype)) throw new Error("cannot switch audio output");
    this.speaker = id;
    for (const voice of this.#voices) await voice.element.setSinkId(id);
  }

  async disconnect(): Promise<void> {
    this.disconnects += 1;
    if (this.isStuck) await new Promise(() => undefined);
    if (this.state === ConnectionState.Disconnected) return;
    this.#join?.reject(ConnectionError.cancelled("Client initiated disconnect"));
    this.drop(DisconnectReason.CLIENT_INITIATED);
  }

  startAudio = async (): Promise<void> => {
    this.allowPlayback(!this.playbackError);
    if (this.playbackError) throw this.playbackError;
  };

  /** Wait until `connect` has been called. */
  async asked(): Promise<void> {
    if (this.connects === 0) await new Promise((resolve) => this.once("asked", resolve));
  }

  signalled(): void {
    this.emit(RoomEvent.SignalConnected);
  }

  admit(): void {
    this.signalled();
    this.state = ConnectionState.Connected;
    this.emit(RoomEvent.Connected);
    this.#join?.resolve();
    this.#join = undefined;
  }

  /** A join that fails, as LiveKit does it: first the event, then the promise. */
  refuse(error: unknown): void {
    const join = this.#join;
    this.drop(DisconnectReason.JOIN_FAILURE);
    join?.reject(error);
  }

  /** The connection ends, by whoever's doing. */
  drop(reason?: DisconnectReason): void {
    this.state = ConnectionState.Disconnected;
    this.emit(RoomEvent.Disconnected, reason);
    for (const stream of this.#streams) stream.cut();
    this.#streams.clear();
  }

  reconnecting(): void {
    this.state = ConnectionState.Reconnecting;
    this.emit(RoomEvent.SignalReconnecting);
    this.emit(RoomEvent.Reconnecting);
  }

  reconnected(): void {
    this.state = ConnectionState.Connected;
    this.emit(RoomEvent.Reconnected);
  }

  /** The agent comes into the room. */
  enter(): void {
    this.remoteParticipants.set("agent", {});
    this.emit(RoomEvent.ParticipantConnected, {});
  }

  speak(voice: FakeVoice): void {
    this.#voices.add(voice);
    if (this.speaker) voice.element.sinkId = this.speaker;
    this.emit(RoomEvent.TrackSubscribed, voice);
  }

  fallSilent(voice: FakeVoice): void {
    this.#voices.delete(voice);
    this.emit(RoomEvent.TrackUnsubscribed, voice);
  }

  allowPlayback(allowed: boolean): void {
    if (allowed === this.canPlaybackAudio) return;
    this.canPlaybackAudio = allowed;
    this.emit(RoomEvent.AudioPlaybackStatusChanged, allowed);
  }

  open(): AgentStream {
    const opened = new AgentStream();
    this.#streams.add(opened);
    this.#handler?.(opened.stream);
    return opened;
  }

  /** A whole message at once. */
  say(message: unknown): void {
    const stream = this.open();
    this.#streams.delete(stream);
    stream.write(typeof message === "string" ? message : JSON.stringify(message)).close();
  }
}

export interface Heard {
  type: string;
  timestamp?: string;
  data: Record<string, unknown>;
}

const calls = new Set<Call>();

afterEach(async () => {
  for (const call of calls) await call.session.disconnect();
  calls.clear();
});

/** A session over fake rooms, and every message that it tells. */
export class Call {
  readonly rooms: FakeRoom[] = [];
  readonly heard: Heard[] = [];
  readonly session: WebRTCSession;
  readonly #news = new EventEmitter();

  constructor(options: SessionOptions = {}) {
    calls.add(this);
    this.session = new WebRTCSession(options, ({ audioOutput }) => {
      const room = new FakeRoom();
      room.speaker = String(audioOutput?.deviceId ?? "");
      this.rooms.push(room);
      return room as unknown as Room;
    });
    this.session.on("*", (message) => {
      this.heard.push(message as Heard);
      this.#news.emit("message");
    });
  }

  get room(): FakeRoom {
    const room = this.rooms.at(-1);
    if (!room) throw new Error("connect() has not been called");
    return room;
  }

  types(): string[] {
    return this.heard.map((message) => message.type);
  }

  /** Without those of the agent's being there. */
  news(): string[] {
    return this.types().filter((type) => type !== "agent_here" && type !== "agent_voice");
  }

  /** Connect, and have the server let us in. */
  async begin(): Promise<FakeRoom> {
    const connecting = this.session.connect({ token: TOKEN, url: URL_ });
    await this.room.asked();
    this.room.admit();
    await connecting;
    return this.room;
  }

  /** The messages, as soon as there are so many. */
  async hear(count: number): Promise<Heard[]> {
    while (this.heard.length < count) await new Promise((resolve) => this.#news.once("message", resolve));
    return this.heard;
  }
}

/** Let everything happen that does not wait for a timer. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
}
