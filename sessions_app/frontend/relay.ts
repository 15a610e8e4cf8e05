import { Backoff } from "./backoff";
import type { Clock } from "./clock";
import type { Entry, Frame, Interim } from "./events";
import type { Unsent } from "./unsent";

/** Stored, but not yet acknowledged: more would only fill the server's memory. */
const WINDOW = 256;
/** The server refuses messages over 64 KiB. */
const MAX_FRAME_BYTES = 60_000;
const PING_MS = 20_000;
/** With something to come and nothing coming, the socket is dead, whatever it says. */
const SILENCE_MS = 15_000;
/** How long after the end of the call the relay tries to get its last frames acknowledged. */
const LINGER_MS = 60_000;
const INTERIM_GAP_MS = 200;
/** After this many refusals in a row, repeating does not help: one of the two sides has a defect, or the log is full. */
const MAX_REFUSALS = 3;

const OPEN = 1; // WebSocket.OPEN, which Node's tests do not have

/** The part of a browser's `WebSocket` that the relay uses. */
export type RelaySocket = Pick<
  WebSocket,
  "readyState" | "send" | "close" | "onopen" | "onmessage" | "onclose"
>;

export interface RelayOptions {
  clock: Clock;
  openSocket: () => RelaySocket;
  /** Where the frames are kept that the server has not acknowledged. */
  unsent: Unsent;
  /** The output of a tool that the server ran; each tool call once. */
  onToolOutput: (toolCallId: string, output: string) => void;
  random?: () => number;
}

/**
 * The browser's way into the log of one call. Entries get numbers 1, 2, 3 … and are sent again until the server
 * says that they are stored; a lost socket, a reload or a closing tab loses none. It knows nothing of the media.
 */
export class Relay {
  readonly #options: RelayOptions;
  readonly #backoff: Backoff;
  #socket: RelaySocket | null = null;
  #isWelcome = false;
  #isFinished = false;
  #isClosed = false;
  #seq = 0;
  #acked = 0;
  /** The last number sent on this socket. */
  #sent = 0;
  #refusals = 0;
  #cancelRetry: (() => void) | undefined;
  #cancelPing: (() => void) | undefined;
  #cancelWatch: (() => void) | undefined;
  readonly #lastInterim = new Map<unknown, number>();
  readonly #toolOutputs = new Set<string>();

  constructor(options: RelayOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.random);
    this.#connect();
  }

  /** Takes an entry for the log; it is kept until the server has stored it. */
  record(entry: Entry): void {
    this.#seq += 1;
    let frame: Frame = { seq: this.#seq, ...entry };
    const bytes = new TextEncoder().encode(JSON.stringify(frame)).length;
    // The log then shows that something was here; dropping it would leave a gap that blocks its successors.
    if (bytes > MAX_FRAME_BYTES) frame = { ...frame, data: { too_large_bytes: bytes } };
    this.#options.unsent.add(frame);
    this.#pump();
  }

  /** Shows a changing caption to whoever watches now; dropped if it cannot go at once. */
  interim(frame: Interim): void {
    if (!this.#isWelcome || this.#socket?.readyState !== OPEN) return;
    const turn = `${frame.type} ${frame.data.turn_id}`;
    const now = this.#options.clock.now();
    if (now - (this.#lastInterim.get(turn) ?? Number.NEGATIVE_INFINITY) < INTERIM_GAP_MS) return;
    this.#lastInterim.set(turn, now);
    this.#socket.send(JSON.stringify(frame));
  }

  /** No more entries will come: closes as soon as all are acknowledged, or after a while without success. */
  finish(): void {
    if (this.#isFinished) return;
    this.#isFinished = true;
    this.#options.clock.after(LINGER_MS, () => this.#close());
    this.#closeIfDone();
  }

  /** The page is going away: what the server may not have goes by another way that outlives the page. */
  leave(): void {
    void this.#options.unsent.post({ keepalive: true });
  }

  /** The network is back: do not wait for the next attempt. */
  reconnectNow(): void {
    if (this.#isClosed || this.#socket) return;
    this.#cancelRetry?.();
    this.#connect();
  }

  #connect(): void {
    const socket = this.#options.openSocket();
    this.#socket = socket;
    this.#isWelcome = false;
    socket.onmessage = (event) => {
      if (this.#socket === socket) this.#receive(String(event.data));
    };
    socket.onclose = (event) => {
      if (this.#socket === socket) this.#lost(event.code);
    };
    this.#watch();
  }

  #receive(text: string): void {
    let message: {
      type?: unknown;
      ack?: unknown;
      seq?: unknown;
      code?: unknown;
      data?: Record<string, unknown>;
    };
    try {
      message = JSON.parse(text);
    } catch {
      console.warn("The log sent a message that is not JSON.");
      return;
    }
    const { toolCallId, output } = message.data ?? {};
    if (message.type === "welcome" && typeof message.ack === "number") {
      this.#isWelcome = true;
      this.#acknowledge(message.ack);
      this.#sent = this.#acked;
      this.#ping();
      this.#pump();
    } else if (message.type === "ack" && typeof message.ack === "number") {
      this.#backoff.reset();
      this.#refusals = 0;
      this.#acknowledge(message.ack);
      this.#pump();
    } else if (message.type === "nack") {
      // Stored as refused; the next ack covers its number, so that it holds up nothing.
      console.warn(`The log refused event ${message.seq} (${message.code}).`);
    } else if (
      message.type === "tool_call_output" &&
      typeof toolCallId === "string" &&
      typeof output === "string" &&
      !this.#toolOutputs.has(toolCallId)
    ) {
      this.#toolOutputs.add(toolCallId);
      this.#options.onToolOutput(toolCallId, output);
    }
    this.#watch();
  }

  #acknowledge(ack: number): void {
    if (ack > this.#acked) {
      this.#acked = ack;
      this.#options.unsent.drop(ack);
    }
    this.#closeIfDone();
  }

  #pump(): void {
    const socket = this.#socket;
    if (!this.#isWelcome || socket?.readyState !== OPEN) return;
    for (const frame of this.#options.unsent.after(this.#sent)) {
      if (frame.seq > this.#acked + WINDOW) break;
      socket.send(JSON.stringify(frame));
      this.#sent = frame.seq;
    }
    if (!this.#cancelWatch) this.#watch();
  }

  /** Waits for the server's next word, as long as it owes one: the welcome, or an ack. */
  #watch(): void {
    this.#cancelWatch?.();
    this.#cancelWatch = undefined;
    if (this.#isClosed || (this.#isWelcome && this.#sent <= this.#acked)) return;
    this.#cancelWatch = this.#options.clock.after(SILENCE_MS, () => {
      const socket = this.#socket;
      this.#lost(0);
      socket?.close();
    });
  }

  #ping(): void {
    this.#cancelPing?.();
    this.#cancelPing = this.#options.clock.after(PING_MS, () => {
      if (this.#socket?.readyState === OPEN) this.#socket.send('{"type":"ping"}');
      this.#ping();
    });
  }

  #lost(code: number): void {
    this.#socket = null;
    this.#isWelcome = false;
    this.#cancelPing?.();
    this.#cancelWatch?.();
    this.#cancelWatch = undefined;
    if (this.#isClosed) return;
    if (code === 4400 || code === 4409 || code === 4429) this.#refusals += 1;
    if (code === 4403 || code === 4410 || this.#refusals >= MAX_REFUSALS) {
      console.warn(`The log of this call takes no more events (${code}).`);
      this.#close();
    } else {
      this.#cancelRetry = this.#options.clock.after(this.#backoff.next(), () => this.#connect());
    }
  }

  #closeIfDone(): void {
    if (this.#isFinished && this.#acked >= this.#seq) this.#close();
  }

  #close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#cancelRetry?.();
    this.#cancelPing?.();
    this.#cancelWatch?.();
    this.#socket?.close();
  }
}
