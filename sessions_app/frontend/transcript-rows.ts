/** The transcript's order, its offsets, and when to fetch more of it. No DOM in here. */

/** Where a row stands in the conversation: the same order as the server's `in_order()`. */
export interface RowPlace {
  /** Offset on the call's clock in ms. */
  atMs: number;
  source: string;
  seq: number;
}

export function comparePlaces(a: RowPlace, b: RowPlace): number {
  if (a.atMs !== b.atMs) return a.atMs - b.atMs;
  if (a.source !== b.source) return a.source < b.source ? -1 : 1;
  return a.seq - b.seq;
}

/** The index in `places` (ascending) before which `place` belongs; `places.length` for the end. */
export function insertionIndex(places: readonly RowPlace[], place: RowPlace): number {
  // From the end: nearly every new row is the newest one.
  let index = places.length;
  for (; index > 0; index -= 1) {
    const before = places[index - 1];
    if (before && comparePlaces(before, place) <= 0) break;
  }
  return index;
}

/** An offset into a call as the server writes it: `0:07`, `12:30`, `1:02:03`. */
export function offset(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  const two = (n: number) => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/**
 * Answers rings one at a time. A ring during an answer means one more answer afterwards, however many
 * rings there were: what they announced is in the database by then.
 */
export class Doorbell {
  readonly #answer: () => Promise<void>;
  #answering = false;
  #rungAgain = false;

  constructor(answer: () => Promise<void>) {
    this.#answer = answer;
  }

  /** Resolves when there is nothing left to answer, or at once if an answer is under way. Rejects as `answer` does. */
  async ring(): Promise<void> {
    if (this.#answering) {
      this.#rungAgain = true;
      return;
    }
    this.#answering = true;
    try {
      do {
        this.#rungAgain = false;
        await this.#answer();
      } while (this.#rungAgain);
    } finally {
      this.#answering = false;
    }
  }
}
