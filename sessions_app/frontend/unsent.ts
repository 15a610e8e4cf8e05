import type { Frame } from "./events";

const PREFIX = "voicedemo.unsent.";
/** Browsers allow 64 KiB for all requests together that outlive their page. */
const MAX_POST_BYTES = 60_000;

/** Posts frames to a session's log; resolves with the HTTP status and the log's last number. */
export type PostFrames = (
  session: string,
  body: string,
  options: { keepalive: boolean },
) => Promise<{ status: number; ack?: number }>;

/**
 * The frames of one call that the server has not acknowledged, kept in the tab's storage, so that a reload
 * or a crash of the page loses none.
 */
export class Unsent {
  #frames: Frame[];
  readonly #session: string;
  readonly #storage: Storage | null;
  readonly #post: PostFrames;

  constructor(session: string, storage: Storage | null, post: PostFrames) {
    this.#session = session;
    this.#storage = storage;
    this.#post = post;
    this.#frames = readFrames(storage?.getItem(PREFIX + session));
  }

  add(frame: Frame): void {
    this.#frames.push(frame);
    this.#save();
  }

  after(seq: number): Frame[] {
    return this.#frames.filter((frame) => frame.seq > seq);
  }

  /** Forgets the frames up to `ack`: the server has them. */
  drop(ack: number): void {
    this.#frames = this.after(ack);
    this.#save();
  }

  /**
   * Sends all by POST, piece after piece. What the server cannot take (not ours, closed, a gap) is forgotten;
   * what does not reach it stays for the next page load.
   */
  async post(options = { keepalive: false }): Promise<void> {
    while (this.#frames.length > 0) {
      let answer: Awaited<ReturnType<PostFrames>>;
      try {
        answer = await this.#post(this.#session, this.#piece(), options);
      } catch {
        return; // no network: the frames are still stored
      }
      const left = this.#frames.length;
      const canHelp = answer.status === 200 || answer.status === 409;
      if (canHelp && answer.ack !== undefined) this.drop(answer.ack);
      if (this.#frames.length < left) continue;
      if (answer.status >= 500 || answer.status === 429) return;
      console.warn(`The log of an earlier call takes no more events (${answer.status}).`);
      this.drop(Number.POSITIVE_INFINITY);
    }
  }

  #piece(): string {
    const encoder = new TextEncoder();
    const frames: string[] = [];
    let bytes = '{"frames":[]}'.length;
    for (const frame of this.#frames) {
      const json = JSON.stringify(frame);
      bytes += encoder.encode(json).length + 1;
      if (frames.length > 0 && bytes > MAX_POST_BYTES) break;
      frames.push(json);
    }
    return `{"frames":[${frames.join(",")}]}`;
  }

  #save(): void {
    const key = PREFIX + this.#session;
    try {
      if (this.#frames.length === 0) this.#storage?.removeItem(key);
      else this.#storage?.setItem(key, JSON.stringify(this.#frames));
    } catch (error) {
      // Storage full: a reload would lose the newest frames, the call itself goes on.
      console.warn("Events could not be kept for a reload:", error);
    }
  }
}

/** Posts what earlier page loads of this tab could not deliver. */
export async function postLeftovers(storage: Storage | null, post: PostFrames): Promise<void> {
  if (!storage) return;
  const keys = Array.from({ length: storage.length }, (_, index) => storage.key(index) ?? "");
  for (const key of keys.filter((key) => key.startsWith(PREFIX))) {
    await new Unsent(key.slice(PREFIX.length), storage, post).post();
  }
}

/** The browser's storage of that kind; null where the visitor forbids this site to keep anything. */
export function allowedStorage(kind: "sessionStorage" | "localStorage"): Storage | null {
  try {
    return window[kind];
  } catch {
    return null; // a SecurityError, at the mere mention of it
  }
}

function readFrames(json: string | null | undefined): Frame[] {
  return json ? (JSON.parse(json) as Frame[]) : [];
}
