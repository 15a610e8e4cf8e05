const FLOOR_MS = 250;
const CEILING_MS = 10_000;

/**
 * Waiting times between attempts to reconnect, in milliseconds: "full jitter" (any time between the floor and a
 * ceiling that doubles), so that the pages which a restart of the server cut off together do not come back together.
 */
export class Backoff {
  #attempts = 0;
  readonly #random: () => number;

  constructor(random: () => number = Math.random) {
    this.#random = random;
  }

  /** `attempt`: counts as at least the so-many-th in a row, to spread a first wait as wide as a later one. */
  next(attempt = 1): number {
    this.#attempts = Math.max(this.#attempts + 1, attempt);
    const ceiling = Math.min(CEILING_MS, FLOOR_MS * 2 ** this.#attempts);
    return FLOOR_MS + this.#random() * (ceiling - FLOOR_MS);
  }

  reset(): void {
    this.#attempts = 0;
  }
}
