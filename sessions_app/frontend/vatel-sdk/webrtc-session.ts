/** The session that a page holds: its handlers, and one connection after another. */

import { ConnectionState, getLogger, LoggerNames, LogLevel, Room, type RoomOptions } from "livekit-client";
import { Connection } from "./connection";
import { NotConnectedError, SessionBusyError, VatelConnectError } from "./errors";
import type { MessageOf, MessageType, OutgoingMessage, UnknownMessage, VatelMessage } from "./messages";
import { trySpeaker } from "./voices";

export const TRANSPORT_WEBRTC = "webrtc";
export const TRANSPORT_WEBSOCKET = "websocket";
export const DEFAULT_WEBRTC_SIGNALING_URL = "wss://sip.vatel.ai";

export interface SessionOptions {
  /** Where the `<audio>` elements of the agent's voice go. Without it they play outside the document. */
  remoteAudioContainer?: HTMLElement | null;
}

export interface ConnectOptions {
  /** The media room's token (`webrtc_token` of the credential). */
  token: string;
  /** Signalling address, ws:// or wss://. */
  url?: string;
  /** Informative: the token decides which room is joined. */
  room?: string;
}

type Handler = (message: never) => unknown;

// LiveKit logs errors that quote the refused token, and WebSocket events whose address holds it. What matters of
// them comes out of here as events and errors. Not by `setLogLevel`: that writes to the page's local storage.
for (const name of Object.values(LoggerNames)) getLogger(name).setLevel(LogLevel.silent, false);

/**
 * A voice call in the browser. The object can be used for one call after another; its handlers stay.
 *
 *     const session = new WebRTCSession({ remoteAudioContainer });
 *     session.on("response_text", (message) => show(message.data.text));
 *     await session.connect({ token, url });
 *     await session.setMicrophoneEnabled(true);
 */
export class WebRTCSession {
  readonly #container: HTMLElement | undefined;
  readonly #createRoom: (options: RoomOptions) => Room;
  readonly #handlers = new Map<string, Set<{ handle: Handler }>>();
  #connection: Connection | undefined;
  #speaker = "";

  /** `createRoom` is the seam for tests without a network; pages leave it out. */
  constructor(options: SessionOptions = {}, createRoom = (options: RoomOptions): Room => new Room(options)) {
    this.#container = options.remoteAudioContainer ?? undefined;
    this.#createRoom = createRoom;
  }

  /** LiveKit's state of the running call; `disconnected` when there is none. */
  get connectionState(): ConnectionState {
    return this.#connection?.state ?? ConnectionState.Disconnected;
  }

  /** The microphone's track that is sent, or would be if it were not muted; not always the one that the page gave. */
  get microphoneTrack(): MediaStreamTrack | undefined {
    return this.#connection?.microphone.track?.mediaStreamTrack;
  }

  /**
   * Join the call. Resolves with the room's name when sound can flow both ways. Register handlers before: the
   * agent's first messages may arrive before this resolves.
   *
   * @throws VatelConnectError with a `code`; nothing is left open then, and no `disconnected` is told.
   * @throws SessionBusyError while connecting or connected.
   */
  async connect({
    token,
    url = DEFAULT_WEBRTC_SIGNALING_URL,
    room = "",
  }: ConnectOptions): Promise<{ room: string }> {
    if (typeof RTCPeerConnection === "undefined") {
      throw new VatelConnectError("failed", "A call needs a browser with WebRTC.");
    }
    if (typeof token !== "string" || token === "") {
      throw new VatelConnectError("failed", "The token is missing.");
    }
    if (!isSignallingUrl(url)) {
      throw new VatelConnectError("failed", "The url is not a ws:// or wss:// address.");
    }
    const previous = this.#connection;
    if (previous && !previous.leaving) throw new SessionBusyError();

    // Always a new Room: one that has failed or was cancelled keeps locks and leftovers that reach into its next call.
    const connection = new Connection(this.#createRoom, this.#container, this.#speaker, {
      deliver: (message) => this.#deliver(message),
      ended: () => {
        if (this.#connection === connection) this.#connection = undefined;
      },
    });
    this.#connection = connection;
    return { room: (await connection.join(url, token, previous?.leaving)) || room };
  }

  /**
   * Allow the agent's voice to be heard. Where the browser asks for it, call this inside a click or a key press.
   *
   * @throws PlaybackBlockedError if the browser still refuses; `playback_blocked` is told as well.
   * @throws NotConnectedError without a call.
   */
  async start(): Promise<void> {
    await this.#current().start();
  }

  /**
   * Send the sound of a microphone that the page has already been granted. From now on the track is the session's:
   * it is stopped when the call ends, and also if this fails. A second track takes the place of the first without a
   * gap, and the first is stopped; a mute stays. While `connect()` is under way it is sent as soon as the server takes
   * it, which is sooner than after it.
   *
   * @throws NotConnectedError without a call, or when it ends meanwhile.
   * @throws VatelConnectError the same as `connect()`, when that fails meanwhile. A track that the server had not taken
   * by then stays the page's, which may try again with it, unless it was the page that gave up.
   */
  async setMicrophoneTrack(track: MediaStreamTrack): Promise<void> {
    if (!this.#connection || this.#connection.leaving) track.stop();
    await this.#current().microphone.publish(track);
  }

  /**
   * Play the agent on this speaker, now and in later calls; "" is the system's.
   *
   * @throws DOMException from the browser: NotFoundError, NotAllowedError, … The speaker stays the one before.
   */
  async setSpeaker(deviceId: string): Promise<void> {
    if (await trySpeaker(deviceId)) await this.#connection?.setSpeaker(deviceId);
    this.#speaker = deviceId;
  }

  /**
   * Unmute or mute the microphone. `true` asks the browser for one if the page gave none, or if it has ended. Calls
   * settle in order.
   *
   * @throws DOMException from the browser: NotAllowedError, NotFoundError, NotReadableError, …
   * @throws NotConnectedError without a call, or when it ends meanwhile.
   */
  async setMicrophoneEnabled(enabled: boolean): Promise<void> {
    await this.#current().microphone.setEnabled(enabled);
  }

  /**
   * Have `handler` called with each message of a type; "*" means every message, after the handlers of its type. A
   * handler that throws or rejects stops nobody; its error goes where the page's uncaught errors go. Returns the
   * function that unsubscribes.
   */
  on<Type extends MessageType>(type: Type, handler: (message: MessageOf<Type>) => unknown): () => void;
  on(type: "*", handler: (message: VatelMessage | UnknownMessage) => unknown): () => void;
  on(type: string, handler: (message: UnknownMessage) => unknown): () => void;
  on(type: string, handler: Handler): () => void {
    const registration = { handle: handler };
    const handlers = this.#handlers.get(type) ?? new Set();
    this.#handlers.set(type, handlers.add(registration));
    return () => {
      handlers.delete(registration);
    };
  }

  /**
   * Answer a tool call. `output` is a string, often JSON.
   *
   * @throws NotConnectedError without a call.
   */
  async sendToolCallOutput(toolCallId: string, output: string): Promise<void> {
    if (typeof toolCallId !== "string" || toolCallId === "") {
      throw new TypeError("toolCallId must be a string.");
    }
    if (typeof output !== "string") {
      throw new TypeError("output must be a string; use JSON.stringify for a value.");
    }
    await this.send({ type: "tool_call_output", data: { toolCallId, output } });
  }

  /**
   * Send a message to the agent. Messages go out in the order of the calls.
   *
   * @throws NotConnectedError without a call.
   */
  async send(message: OutgoingMessage): Promise<void> {
    if (typeof message?.type !== "string") throw new TypeError("A message needs a type.");
    await this.#inCall().send(JSON.stringify(message));
  }

  /** Leave the call, or stop joining it. Resolves when all is closed and `disconnected` has been told. */
  async disconnect(): Promise<void> {
    await this.#connection?.leave();
  }

  #current(): Connection {
    if (!this.#connection || this.#connection.leaving) throw new NotConnectedError();
    return this.#connection;
  }

  #inCall(): Connection {
    const connection = this.#current();
    if (!connection.joined) throw new NotConnectedError();
    return connection;
  }

  #deliver(message: VatelMessage | UnknownMessage): void {
    for (const type of [message.type, "*"]) {
      const handlers = this.#handlers.get(type);
      for (const registration of [...(handlers ?? [])]) {
        // A handler may have unsubscribed one that comes after it.
        if (handlers?.has(registration)) callIsolated(registration.handle, message);
      }
    }
  }
}

function callIsolated(handle: Handler, message: VatelMessage | UnknownMessage): void {
  const report = (error: unknown) => {
    if (typeof reportError === "function") reportError(error);
    else console.error(error);
  };
  try {
    Promise.resolve(handle(message as never)).catch(report);
  } catch (error) {
    report(error);
  }
}

/** LiveKit locks a Room for good over an address that it cannot read, so it never gets one. */
function isSignallingUrl(url: unknown): boolean {
  if (typeof url !== "string" || !URL.canParse(url)) return false;
  return ["ws:", "wss:", "http:", "https:"].includes(new URL(url).protocol);
}
