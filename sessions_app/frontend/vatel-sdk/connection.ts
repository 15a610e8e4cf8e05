/** One call in one LiveKit room, from joining to leaving. Never used twice. */

import {
  ConnectionState,
  type DisconnectReason,
  type RemoteTrack,
  type Room,
  RoomEvent,
  type RoomOptions,
} from "livekit-client";
import { Ear } from "./ear";
import {
  cancelled,
  connectError,
  kickedOut,
  NotConnectedError,
  noMedia,
  PlaybackBlockedError,
  unanswered,
  type VatelConnectError,
} from "./errors";
import { Inbox, MAX_MESSAGE_LENGTH } from "./inbox";
import {
  type MessageData,
  type MessageOf,
  type MessageType,
  type UnknownMessage,
  type VatelMessage,
  WEBRTC_MESSAGES_TOPIC,
} from "./messages";
import { Microphone } from "./microphone";
import { Playback } from "./playback";
import { Voices } from "./voices";
import { Watchdog } from "./watchdog";

/**
 * LiveKit's own limits leave gaps: a server that answers 404 is tried again for ever. These are for somebody who waits
 * and looks on: a name, TCP, TLS and the answer take five round trips, a relay behind a firewall twice as many, and the
 * slowest lines in use (satellites) need 0.7 s for each.
 */
export const SIGNALLING_LIMIT_MS = 8_000;
export const MEDIA_LIMIT_MS = 10_000;

/** LiveKit says good-bye within half a second. Whatever may hold it up must not hold up the next call. */
export const LEAVING_LIMIT_MS = 2_000;

/** The news that the agent left travels another way than its last messages, and may overtake them. */
export const FAREWELL_MS = 500;

/** A full reconnection takes every participant away; the agent may be back some seconds later than we are. */
export const AGENT_RETURN_MS = 10_000;

const ROOM_OPTIONS: RoomOptions = {
  adaptiveStream: false,
  dynacast: false,
  // It would leave at `beforeunload`, too; but a page may stay after that: the next one never comes, or is a download.
  disconnectOnPageLeave: false,
  stopLocalTrackOnUnpublish: true,
  // In bytes, of which a UTF-16 unit takes up to three.
  dataStream: { maxPayloadByteLength: 3 * MAX_MESSAGE_LENGTH },
};

export interface ConnectionOwner {
  deliver(message: VatelMessage | UnknownMessage): void;
  /** All is closed. Comes before `disconnected`, so that its handlers can connect again. */
  ended(): void;
}

export class Connection {
  readonly microphone: Microphone;
  readonly #room: Room;
  readonly #owner: ConnectionOwner;
  readonly #inbox: Inbox;
  readonly #ear: Ear;
  readonly #voices: Voices;
  readonly #watchdog: Watchdog;
  readonly #playback: Playback;
  #failJoin!: (failure: VatelConnectError) => void;
  readonly #joinFailed = new Promise<never>((_, reject) => {
    this.#failJoin = reject;
  });
  #outbox: Promise<unknown> = Promise.resolve();
  #leaving: Promise<void> | undefined;
  #ended: Promise<void> | undefined;
  #signalled = false;
  #joined = false;
  #reconnecting = false;
  #hadVoice = false;
  readonly #toldPresence = new Set<MessageType>();
  /** News of a microphone that was given while joining: those who wait for the call could not act on it. */
  readonly #early: (() => void)[] = [];
  #agentLeft = false;
  #gaveUp = false;
  #dropped = 0;
  readonly #pageHidden = () => void this.leave();
  #limit: ReturnType<typeof setTimeout> | undefined;
  #farewell: ReturnType<typeof setTimeout> | undefined;

  constructor(
    createRoom: (options: RoomOptions) => Room,
    container: HTMLElement | undefined,
    speaker: string,
    owner: ConnectionOwner,
  ) {
    const room = createRoom({ ...ROOM_OPTIONS, audioOutput: { deviceId: speaker } });
    this.#room = room;
    this.#owner = owner;
    this.#voices = new Voices(container);
    this.#playback = new Playback(
      room,
      () => this.joined,
      (type) => this.#tell(type, {}),
    );
    this.#ear = new Ear((ago_ms) => {
      if (room.canPlaybackAudio) this.#tell("reply_audible", { ago_ms: Math.round(ago_ms) });
    });
    this.#inbox = new Inbox(
      (message) => {
        if (message.type === "speech_stopped") this.#ear.listen();
        if (message.type === "speech_started") this.#ear.rest();
        this.#watchdog.receive(message.type);
        owner.deliver(message);
      },
      (why) => {
        this.#dropped += 1;
        this.#tell("message_dropped", { count: this.#dropped, why });
      },
    );
    this.microphone = new Microphone(room, (type, data) => {
      const tell = () => this.#tell(type, data);
      if (this.#joined) tell();
      else this.#early.push(tell);
    });
    this.#watchdog = new Watchdog({
      voices: () => this.#voices.tracks,
      microphone: this.microphone,
      isReconnecting: () => this.#reconnecting,
      isPlaying: () => room.canPlaybackAudio,
      tell: (type) => this.#tell(type, {}),
      giveUp: () => {
        this.#gaveUp = true;
        void this.leave();
      },
    });
    // `join` races against it; on its own it is not an error that nobody handled.
    this.#joinFailed.catch(() => {});
  }

  get state(): ConnectionState {
    if (this.#leaving) return ConnectionState.Disconnected;
    return this.#joined ? this.#room.state : ConnectionState.Connecting;
  }

  /** In the call, and not leaving it. */
  get joined(): boolean {
    return this.#joined && !this.#leaving;
  }

  /** Done when all is closed; undefined as long as nothing ends the call. */
  get leaving(): Promise<void> | undefined {
    return this.#leaving;
  }

  /**
   * Join the room, as soon as `after`, the leaving of an earlier one, is done. Gives the room's name.
   *
   * @throws VatelConnectError, after the room has been left.
   */
  async join(url: string, token: string, after?: Promise<void>): Promise<string> {
    try {
      await Promise.race([this.#join(url, token, after), this.#joinFailed]);
      if (this.#leaving) throw cancelled();
      if (this.#room.state === ConnectionState.Disconnected) throw kickedOut();
      this.#joined = true;
    } catch (error) {
      const failure = connectError(error, this.#signalled);
      this.microphone.close(failure);
      await this.leave();
      throw failure;
    } finally {
      clearTimeout(this.#limit);
    }
    this.#playback.review();
    this.#reviewPresence();
    for (const tell of this.#early) tell();
    this.#watchdog.start();
    return this.#room.name;
  }

  /** Leave, or stop joining. Done when all is closed and `disconnected` has been told. */
  leave(): Promise<void> {
    this.#leaving ??= this.#leave();
    return this.#leaving;
  }

  /** @throws PlaybackBlockedError if the browser refuses to play sound. */
  async start(): Promise<void> {
    this.#ear.resume();
    if (await this.#playback.start()) return;
    throw this.#leaving ? new NotConnectedError() : new PlaybackBlockedError();
  }

  /** @throws DOMException from the browser. */
  async setSpeaker(id: string): Promise<void> {
    await this.#room.switchActiveDevice("audiooutput", id);
  }

  /** Send one text after another: LiveKit's streams overtake each other if they are opened at once. */
  async send(text: string): Promise<void> {
    const sending = this.#outbox.then(async () => {
      if (!this.joined) throw new NotConnectedError();
      await this.#room.localParticipant.sendText(text, { topic: WEBRTC_MESSAGES_TOPIC });
    });
    // The error goes to this call's caller; it must not fail the next one.
    this.#outbox = sending.catch(() => {});
    await sending;
  }

  async #join(url: string, token: string, after: Promise<void> | undefined): Promise<void> {
    this.#failAfter(SIGNALLING_LIMIT_MS, unanswered);
    await Promise.allSettled([after]);
    if (this.#leaving) return;
    this.#listen();
    const joining = this.#room.connect(url, token, {
      websocketTimeout: SIGNALLING_LIMIT_MS,
      peerConnectionTimeout: MEDIA_LIMIT_MS,
    });
    try {
      await joining;
    } finally {
      // A join that outlives a hang-up would be a call that nobody can end.
      if (this.#leaving) await this.#room.disconnect();
    }
  }

  #listen(): void {
    const room = this.#room;
    addEventListener("pagehide", this.#pageHidden);
    // Before connecting: messages that find no handler are lost.
    room.registerTextStreamHandler(WEBRTC_MESSAGES_TOPIC, (stream) => this.#inbox.receive(stream));
    room
      .on(RoomEvent.SignalConnected, () => {
        this.#signalled = true;
        this.#failAfter(MEDIA_LIMIT_MS, noMedia);
        this.microphone.open();
      })
      .on(RoomEvent.Disconnected, (reason) => this.#disconnected(reason))
      .on(RoomEvent.SignalReconnecting, () => this.#reconnectingNow())
      .on(RoomEvent.Reconnecting, () => this.#reconnectingNow())
      .on(RoomEvent.Reconnected, () => this.#reconnected())
      .on(RoomEvent.TrackSubscribed, (track) => this.#hear(track))
      .on(RoomEvent.TrackUnsubscribed, (track) => this.#unhear(track))
      .on(RoomEvent.ParticipantConnected, () => this.#reviewPresence())
      .on(RoomEvent.ParticipantDisconnected, () => {
        if (room.remoteParticipants.size === 0) this.#agentGone(FAREWELL_MS);
      })
      .on(RoomEvent.AudioPlaybackStatusChanged, () => this.#playback.review());
  }

  #failAfter(ms: number, failure: () => VatelConnectError): void {
    clearTimeout(this.#limit);
    if (this.#joined || this.#leaving) return;
    this.#limit = setTimeout(() => this.#failJoin(failure()), ms);
  }

  async #leave(): Promise<void> {
    if (!this.#joined) {
      const failure = cancelled();
      this.#failJoin(failure);
      this.microphone.close(failure);
    }
    this.#letGo();
    let limit: ReturnType<typeof setTimeout> | undefined;
    const tooLong = new Promise((resolve) => {
      limit = setTimeout(resolve, LEAVING_LIMIT_MS);
    });
    try {
      await Promise.race([this.#room.disconnect(), tooLong]);
    } finally {
      clearTimeout(limit);
      await this.#end(undefined);
    }
  }

  #disconnected(reason: DisconnectReason | undefined): void {
    if (this.#joined) {
      const ending = this.#end(reason);
      this.#leaving ??= ending;
    } else {
      // LiveKit tells this before its join fails with the cause, or, when the server turned us out, 15 s before.
      setTimeout(() => this.#failJoin(kickedOut()));
    }
  }

  #end(reason: DisconnectReason | undefined): Promise<void> {
    this.#ended ??= this.#finish(reason);
    return this.#ended;
  }

  async #finish(reason: DisconnectReason | undefined): Promise<void> {
    this.#letGo();
    await this.#inbox.emptied();
    this.#owner.ended();
    if (!this.#joined) return;
    this.#tell("disconnected", {
      ...(reason === undefined ? {} : { reason }),
      ...(this.#agentLeft ? { agent_left: true } : {}),
      ...(this.#gaveUp ? { gave_up: true } : {}),
    });
  }

  /** Microphone and loudspeaker stop at once, whatever the network makes of the good-bye. */
  #letGo(): void {
    clearTimeout(this.#limit);
    clearTimeout(this.#farewell);
    this.#playback.close();
    removeEventListener("pagehide", this.#pageHidden);
    this.microphone.close();
    this.#watchdog.stop();
    this.#ear.close();
    this.#voices.close();
  }

  #hear(track: RemoteTrack): void {
    if (this.#leaving) return;
    // It plays first: a browser takes its time to begin measuring.
    if (!this.#voices.add(track)) return;
    clearTimeout(this.#farewell);
    this.#ear.attach(track.mediaStreamTrack);
    if (!this.#hadVoice) this.#ear.listen(); // for the greeting
    this.#hadVoice = true;
    this.#reviewPresence();
  }

  #unhear(track: RemoteTrack): void {
    if (this.#voices.remove(track)) this.#agentGone(FAREWELL_MS);
  }

  /** What was there before us is told when we have joined. */
  #reviewPresence(): void {
    const present = { agent_here: this.#room.remoteParticipants.size > 0, agent_voice: this.#hadVoice };
    for (const type of ["agent_here", "agent_voice"] as const) {
      if (!this.joined || !present[type] || this.#toldPresence.has(type)) continue;
      this.#toldPresence.add(type);
      this.#tell(type, {});
    }
  }

  #agentGone(graceMs: number): void {
    clearTimeout(this.#farewell);
    if (this.#leaving) return;
    this.#farewell = setTimeout(() => {
      // While reconnecting nobody is there; it is judged again when we are back.
      if (!this.joined || this.#room.state !== ConnectionState.Connected) return;
      this.#agentLeft = true;
      void this.leave();
    }, graceMs);
  }

  #reconnectingNow(): void {
    if (this.#reconnecting || !this.joined) return;
    this.#reconnecting = true;
    this.#tell("reconnecting", {});
  }

  #reconnected(): void {
    if (!this.#reconnecting) return;
    this.#reconnecting = false;
    this.#watchdog.reset();
    this.#tell("reconnected", {});
    this.microphone.reconnected();
    if (this.#hadVoice && this.#voices.tracks.length === 0) this.#agentGone(AGENT_RETURN_MS);
  }

  #tell<Type extends MessageType>(type: Type, data: MessageData[Type]): void {
    this.#owner.deliver({ type, data } as MessageOf<Type>);
  }
}
