import type { Frame } from "./events";
import type { Answer, Door } from "./second-door";

const PREFIX = "voicedemo.unsent.";
/** The site takes more bytes; but where these frames come from, a request may have to outlive its page. */
const MAX_POST_BYTES = 60_000;
/** The site takes this many frames in one request. */
const MAX_POST_FRAMES = 1_000;

/** The site's answers that another try will not change. A proxy between it and the page has none of these codes. */
const FINAL_CODES: ReadonlySet<unknown> = new Set([
  "not_yours",
  "log_closed",
  "log_full",
  "bad_request",
  "gap",
]);

/**
 * The frames of one call, by number and as JSON, that the server has not acknowledged. Each is kept under a key of
 * its own in the tab's storage, written before it is sent: a reload or a crash of the page loses none, and a long
 * outage does not make each new frame dearer than the last. The storage ends with the tab.
 */
export class Unsent {
  /** In the order of their numbers. */
  readonly #frames: Map<number, string>;
  /** Those that the storage had no room for. */
  readonly #unkept = new Set<number>();
  readonly #session: string;
  readonly #storage: Storage | null;
  readonly #door: Door;

  constructor(session: string, storage: Storage | null, door: Door) {
    this.#session = session;
    this.#storage = storage;
    this.#door = door;
    this.#frames = storage ? readFrames(storage, `${PREFIX}${session}.`) : new Map();
  }

  /** Whether a reload of the page would find them all. */
  get isKept(): boolean {
    return this.#storage !== null && this.#unkept.size === 0;
  }

  /** The frame's number must follow the last one's. */
  add(seq: number, json: string): void {
    this.#frames.set(seq, json);
    if (this.#storage && !this.#keep(seq, json)) this.#unkept.add(seq);
  }

  get(seq: number): string | undefined {
    return this.#frames.get(seq);
  }

  /** Forgets the frames up to `ack`: the server has them. */
  drop(ack: number): void {
    for (const seq of this.#frames.keys()) {
      if (seq > ack) break;
      this.#frames.delete(seq);
      this.#unkept.delete(seq);
      this.#storage?.removeItem(this.#key(seq));
    }
    // There is room again for what had none.
    for (const seq of this.#unkept) {
      if (!this.#keep(seq, this.#frames.get(seq) ?? "")) break;
      this.#unkept.delete(seq);
    }
  }

  /** Forgets all: nobody will ever take them. */
  forget(): void {
    this.drop(Number.POSITIVE_INFINITY);
  }

  /** Posts all, piece after piece. False: what is left is nothing that the server will ever take. */
  async post(): Promise<boolean> {
    while (this.#frames.size > 0) {
      let answer: Answer;
      try {
        answer = await this.#door.post(this.#session, this.#piece(MAX_POST_BYTES));
      } catch {
        return true; // no network, or an answer that is not the site's: the frames are still stored
      }
      const left = this.#frames.size;
      if (answer.ack !== undefined) this.drop(answer.ack);
      if (this.#frames.size === left) return !FINAL_CODES.has(answer.code);
    }
    return true;
  }

  /**
   * The page may be about to go: posts the oldest, as many as the browser lets a page leave behind. They are
   * not dropped for it: a page that stays has its socket's acks, and the next page load finds the rest stored.
   */
  postOnLeaving(): void {
    const body = this.#piece(Math.min(this.#door.room, MAX_POST_BYTES));
    if (!body) return;
    this.#door.post(this.#session, body, { outlivesPage: true }).catch(() => undefined); // still stored
  }

  /** The first frames as the body of a request of at most `room` bytes; "" if there is none, or no room. */
  #piece(room: number): string {
    const encoder = new TextEncoder();
    const frames: string[] = [];
    let bytes = '{"frames":[]}'.length;
    for (const json of this.#frames.values()) {
      bytes += encoder.encode(json).length + 1;
      if (bytes > room || frames.length === MAX_POST_FRAMES) break;
      frames.push(json);
    }
    return frames.length > 0 ? `{"frames":[${frames.join(",")}]}` : "";
  }

  #keep(seq: number, json: string): boolean {
    try {
      this.#storage?.setItem(this.#key(seq), json);
      return true;
    } catch (error) {
      if (this.#unkept.size === 0) console.warn("Events could not be kept for a reload:", error);
      return false; // the call goes on; only a page that ends before the server has the frame loses it
    }
  }

  #key(seq: number): string {
    return `${PREFIX}${this.#session}.${seq}`;
  }
}

/** Posts what earlier page loads of this tab could not deliver; what is not ours, closed or full of gaps is forgotten. */
export async function postLeftovers(storage: Storage | null, door: Door): Promise<void> {
  if (!storage) return;
  const sessions = new Set(
    keysOf(storage, PREFIX).map((key) => key.slice(PREFIX.length, key.lastIndexOf("."))),
  );
  for (const session of sessions) {
    const unsent = new Unsent(session, storage, door);
    if (await unsent.post()) continue;
    console.warn("The log of an earlier call takes no more events.");
    unsent.forget();
  }
}

function keysOf(storage: Storage, prefix: string): string[] {
  const keys = Array.from({ length: storage.length }, (_, index) => storage.key(index) ?? "");
  return keys.filter((key) => key.startsWith(prefix));
}

/**
 * What an earlier page load has left in the storage. Where the storage was full and a frame is missing, a note
 * takes its place: the log would refuse everything after a gap.
 */
function readFrames(storage: Storage, prefix: string): Map<number, string> {
  const frames = new Map<number, string>();
  const seqs = keysOf(storage, prefix).map((key) => Number(key.slice(prefix.length)));
  let next: number | undefined;
  let at_ms = 0;
  for (const seq of seqs.filter((seq) => seq > 0).sort((a, b) => a - b)) {
    for (next ??= seq; next < seq; next += 1) frames.set(next, lostFrame(next, at_ms));
    const json = storage.getItem(prefix + seq) ?? "";
    at_ms = (JSON.parse(json) as Frame).at_ms;
    frames.set(seq, json);
    next = seq + 1;
  }
  return frames;
}

function lostFrame(seq: number, at_ms: number): string {
  const frame: Frame = { seq, at_ms, type: "event_lost", data: {} };
  return JSON.stringify(frame);
}
