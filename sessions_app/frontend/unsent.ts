import type { Frame } from "./events";

const PREFIX = "voicedemo.unsent.";
/** Browsers allow 64 KiB for all requests together that outlive their page. */
const MAX_POST_BYTES = 60_000;

/** The site's answers that another try will not change. A proxy between it and the page has none of these codes. */
const FINAL_CODES: ReadonlySet<unknown> = new Set([
  "not_yours",
  "log_closed",
  "log_full",
  "bad_request",
  "gap",
]);

/** Posts frames to a session's log; resolves with the site's error code, if any, and the log's last number. */
export type PostFrames = (
  session: string,
  body: string,
  options: { keepalive: boolean },
) => Promise<{ code?: unknown; ack?: number | undefined }>;

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

  /** Sends all by POST, piece after piece. False: what is left is nothing that the server will ever take. */
  async post(options = { keepalive: false }): Promise<boolean> {
    while (this.#frames.length > 0) {
      let answer: Awaited<ReturnType<PostFrames>>;
      try {
        answer = await this.#post(this.#session, this.#piece(), options);
      } catch {
        return true; // no network, or an answer that is not the site's: the frames are still stored
      }
      const left = this.#frames.length;
      if (answer.ack !== undefined) this.drop(answer.ack);
      if (this.#frames.length === left) return !FINAL_CODES.has(answer.code);
    }
    return true;
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

/** Posts what earlier page loads of this tab could not deliver; what is not ours, closed or full of gaps is forgotten. */
export async function postLeftovers(storage: Storage | null, post: PostFrames): Promise<void> {
  if (!storage) return;
  const keys = Array.from({ length: storage.length }, (_, index) => storage.key(index) ?? "");
  for (const key of keys.filter((key) => key.startsWith(PREFIX))) {
    const unsent = new Unsent(key.slice(PREFIX.length), storage, post);
    if (await unsent.post()) continue;
    console.warn("The log of an earlier call takes no more events.");
    unsent.drop(Number.POSITIVE_INFINITY);
  }
}

function readFrames(json: string | null | undefined): Frame[] {
  return json ? (JSON.parse(json) as Frame[]) : [];
}
