import { Backoff } from "./backoff";
import type { Clock } from "./clock";
import type { Entry, Frame, Interim } from "./events";
import { Pace } from "./pace";
import type { Unsent } from "./unsent";

/** Sent, but not yet acknowledged: more would only fill the server's memory. It may ask for fewer. */
const WINDOW = 256;
/** The server refuses messages over 64 KiB, and one frame must fit into a request that outlives the page. */
const MAX_FRAME_BYTES = 56 * 1024;
const PING_MS = 20_000;
/** With something to come and nothing coming, the socket is dead, whatever it says. */
const SILENCE_MS = 15_000;
/** Who waits longer than this for an ack has a trouble that the caller should know of. */
const LASTS_MS = 10_000;
const INTERIM_GAP_MS = 200;
/** Changing captions leave this much of the pace to what must be stored. */
const INTERIM_RESERVE = 60;

/** The server's last word: it takes nothing more from this page, by whatever door. */
const FINAL: ReadonlySet<number> = new Set([4403, 4410, 4423, 4430]);
/** Of these, the one after which frames that were under way may still have a place in the log. */
const LOG_FULL = 4430;
/** One of the two sides has a defect, so that repeating does not help for long. */
const DEFECTS: ReadonlySet<number> = new Set([4400, 4409, 4413, 4431]);
const MAX_DEFECTS = 3;
const RESTARTING = 4012;
/** All pages come back from a restart at once: their first waits spread over 2 s, as after two failures. */
const RESTART_ATTEMPT = 3;

const NO_MORE = "The site takes no more of this call's transcript.";

const OPEN = 1; // WebSocket.OPEN, which Node's tests do not have

/** The part of a browser's `WebSocket` that the relay uses. */
export type RelaySocket = Pick<
  WebSocket,
  "readyState" | "send" | "close" | "onopen" | "onmessage" | "onclose"
>;

/**
 * How the log stands, for the caller: all is sent, or soon will be; kept on the device for longer; held in memory
 * only, where the browser keeps nothing; or refused for good, with the site's sentence.
 */
export type Standing = "sent" | "kept" | "held" | { refused: string };

export interface RelayOptions {
  clock: Clock;
  openSocket: () => RelaySocket;
  /** Where the frames are kept that the server has not acknowledged. */
  unsent: Unsent;
  /** The output of a tool that the server ran; each tool call once. */
  onToolOutput: (toolCallId: string, output: string) => void;
  /** Hears of each change; it begins with "sent". */
  onStanding: (standing: Standing) => void;
  random?: () => number;
}

interface Message {
  type?: unknown;
  ack?: unknown;
  window?: unknown;
  seq?: unknown;
  code?: unknown;
  message?: unknown;
  data?: Record<string, unknown>;
}

/**
 * The browser's way into the log of one call. Entries get numbers 1, 2, 3 … and are sent again until the server
 * says that they are stored; a lost socket, a reload or a closing tab loses none. It knows nothing of the media.
 */
export class Relay {
  readonly #options: RelayOptions;
  readonly #backoff: Backoff;
  /** The one that counts. One that was given up may still be closing; nothing that it says is heard. */
  #socket: RelaySocket | null = null;
  #pace: Pace;
  #isWelcome = false;
  #isFinished = false;
  #isClosed = false;
  /** The last number given. */
  #seq = 0;
  #acked = 0;
  /** The last number sent on this socket. */
  #sent = 0;
  #window = WINDOW;
  #defects = 0;
  /** Why the server is about to close this socket: what a close says itself may not get through. */
  #refusal = "";
  #standing: Standing = "sent";
  #cancelRetry: (() => void) | undefined;
  #cancelPing: (() => void) | undefined;
  #cancelWatch: (() => void) | undefined;
  #cancelPump: (() => void) | undefined;
  #cancelLasting: (() => void) | undefined;
  readonly #lastInterim = new Map<unknown, number>();
  readonly #toolOutputs = new Set<string>();

  constructor(options: RelayOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.random);
    this.#pace = new Pace(options.clock);
    this.#connect();
  }

  /** Takes an entry for the log; it is kept until the server has stored it. */
  record(entry: Entry): void {
    if (typeof this.#standing === "object") return; // nobody will ever take it
    this.#seq += 1;
    const frame: Frame = { seq: this.#seq, ...entry };
    let json = JSON.stringify(frame);
    const bytes = new TextEncoder().encode(json).length;
    // The log then shows that something was here; dropping it would leave a gap that blocks its successors.
    if (bytes > MAX_FRAME_BYTES) json = JSON.stringify({ ...frame, data: { too_large_bytes: bytes } });
    this.#options.unsent.add(this.#seq, json);
    if (!this.#cancelLasting) this.#waitForAck();
    this.#pump();
  }

  /** Shows a changing caption to whoever watches now; dropped if it cannot go at once. */
  interim(frame: Interim): void {
    if (!this.#isWelcome || this.#socket?.readyState !== OPEN) return;
    if (this.#pace.level - this.#underWay < INTERIM_RESERVE) return;
    const turn = `${frame.type} ${frame.data.turn_id}`;
    const now = this.#options.clock.now();
    if (now - (this.#lastInterim.get(turn) ?? Number.NEGATIVE_INFINITY) < INTERIM_GAP_MS) return;
    this.#lastInterim.set(turn, now);
    this.#pace.spend(1);
    this.#socket.send(JSON.stringify(frame));
  }

  /** No more entries will come: closes as soon as all are acknowledged. */
  finish(): void {
    this.#isFinished = true;
    this.#closeIfDone();
  }

  /** The page is out of sight, and may never be seen again: what no socket carries now goes by the second door. */
  hide(): void {
    if (!this.#isWelcome) this.#options.unsent.postOnLeaving();
  }

  /** The page is going away, and its socket with it. */
  leave(): void {
    this.#options.unsent.postOnLeaving();
  }

  /** The network is back: do not wait for the next attempt. */
  reconnectNow(): void {
    if (this.#isClosed || this.#socket) return;
    this.#cancelRetry?.();
    this.#connect();
  }

  get #underWay(): number {
    return this.#sent - this.#acked;
  }

  #connect(): void {
    const socket = this.#options.openSocket();
    this.#socket = socket;
    this.#isWelcome = false;
    this.#refusal = "";
    socket.onmessage = (event) => {
      if (this.#socket === socket) this.#receive(String(event.data));
    };
    socket.onclose = (event) => {
      if (this.#socket === socket) this.#lost(event.code);
    };
    this.#watch();
  }

  #receive(text: string): void {
    let message: Message;
    try {
      message = JSON.parse(text);
    } catch {
      console.warn("The log sent a message that is not JSON.");
      return;
    }
    const { toolCallId, output } = message.data ?? {};
    if (message.type === "welcome" && typeof message.ack === "number") {
      this.#welcome(message.ack, message.window);
    } else if (message.type === "ack" && typeof message.ack === "number") {
      this.#backoff.reset();
      this.#defects = 0;
      this.#acknowledge(message.ack);
      this.#pump();
    } else if (message.type === "nack") {
      // Stored as refused; the next ack covers its number, so that it holds up nothing.
      console.warn(`The log refused event ${message.seq} (${message.code}).`);
    } else if (message.type === "refused") {
      this.#refusal = typeof message.message === "string" ? message.message : "";
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

  #welcome(ack: number, window: unknown): void {
    // Numbers that this page never gave: the log would take ours for repeats.
    if (ack > this.#seq) {
      this.#giveUp(0);
      return;
    }
    this.#isWelcome = true;
    if (typeof window === "number" && window > 0) this.#window = Math.min(WINDOW, window);
    this.#acknowledge(ack);
    this.#pace = new Pace(this.#options.clock);
    this.#ping();
    this.#pump();
  }

  #acknowledge(ack: number): void {
    if (ack > this.#acked) {
      this.#pace.spend(Math.max(0, Math.min(ack, this.#sent) - this.#acked));
      this.#acked = ack;
      // What an earlier socket brought may be stored only now.
      this.#sent = Math.max(this.#sent, ack);
      this.#options.unsent.drop(ack);
      this.#waitForAck();
    }
    this.#closeIfDone();
  }

  /** Sends what the window and the pace allow, in the order of the numbers. */
  #pump(): void {
    this.#cancelPump?.();
    this.#cancelPump = undefined;
    const socket = this.#socket;
    while (this.#isWelcome && socket?.readyState === OPEN && this.#sent < this.#seq) {
      if (this.#underWay >= this.#window) break; // goes on with the next ack
      const wait = this.#pace.waitFor(this.#underWay + 1);
      if (wait === undefined) break;
      if (wait > 0) {
        this.#cancelPump = this.#options.clock.after(wait, () => this.#pump());
        break;
      }
      const frame = this.#options.unsent.get(this.#sent + 1);
      if (frame === undefined) break;
      this.#sent += 1;
      socket.send(frame);
    }
    if (this.#socket && !this.#cancelWatch) this.#watch();
  }

  /** Waits for the server's next word, as long as it owes one: the welcome, or an ack. */
  #watch(): void {
    this.#cancelWatch?.();
    this.#cancelWatch = undefined;
    if (this.#isClosed || !this.#socket || (this.#isWelcome && this.#underWay <= 0)) return;
    this.#cancelWatch = this.#options.clock.after(SILENCE_MS, () => {
      const socket = this.#socket;
      this.#lost(0);
      socket?.close();
    });
  }

  #ping(): void {
    this.#cancelPing?.();
    this.#cancelPing = this.#options.clock.after(PING_MS, () => {
      this.#backoff.reset(); // it has held for a while, though there may have been nothing to acknowledge
      this.#pace.spend(1);
      if (this.#socket?.readyState === OPEN) this.#socket.send('{"type":"ping"}');
      this.#ping();
    });
  }

  /** Tells the caller if frames wait for long while no ack comes, and when all of them are through. */
  #waitForAck(): void {
    this.#cancelLasting?.();
    this.#cancelLasting = undefined;
    if (this.#acked >= this.#seq) this.#stand("sent");
    else
      this.#cancelLasting = this.#options.clock.after(LASTS_MS, () => {
        this.#cancelLasting = undefined;
        this.#stand(this.#options.unsent.isKept ? "kept" : "held");
      });
  }

  #stand(standing: Standing): void {
    if (this.#standing === standing) return;
    this.#standing = standing;
    this.#options.onStanding(standing);
  }

  #lost(code: number): void {
    this.#socket = null;
    this.#isWelcome = false;
    this.#sent = this.#acked;
    for (const cancel of [this.#cancelPing, this.#cancelWatch, this.#cancelPump]) cancel?.();
    this.#cancelWatch = undefined;
    if (this.#isClosed) return;
    if (DEFECTS.has(code)) this.#defects += 1;
    if (FINAL.has(code) || this.#defects >= MAX_DEFECTS) {
      this.#giveUp(code);
    } else {
      const wait = this.#backoff.next(code === RESTARTING ? RESTART_ATTEMPT : 1);
      this.#cancelRetry = this.#options.clock.after(wait, () => this.#connect());
    }
  }

  /** After a defect the second door may still take the frames; after the server's last word nobody does. */
  #giveUp(code: number): void {
    console.warn(`The log of this call takes no more events (${code}).`);
    this.#close();
    if (DEFECTS.has(code)) return;
    this.#cancelLasting?.();
    if (code !== LOG_FULL) this.#options.unsent.forget();
    this.#stand({ refused: this.#refusal || NO_MORE });
  }

  #closeIfDone(): void {
    if (this.#isFinished && this.#acked >= this.#seq) this.#close();
  }

  #close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const cancel of [this.#cancelRetry, this.#cancelPing, this.#cancelWatch, this.#cancelPump])
      cancel?.();
    this.#socket?.close();
  }
}
