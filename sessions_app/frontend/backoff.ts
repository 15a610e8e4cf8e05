const FLOOR_MS = 250;
const CEILING_MS = 10_000;

/**
 * Waiting times between attempts to reconnect, in milliseconds: "full jitter", so that the pages
 * which a restart of the server cut off together do not come back together.
 */
export class Backoff {
  #attempts = 0;
  readonly #random: () => number;

  constructor(random: () => number = Math.random) {
    this.#random = random;
  }

  next(): number {
    this.#attempts += 1;
    const ceiling = Math.min(CEILING_MS, FLOOR_MS * 2 ** this.#attempts);
    return FLOOR_MS + this.#random() * (ceiling - FLOOR_MS);
  }

  reset(): void {
    this.#attempts = 0;
  }
}
