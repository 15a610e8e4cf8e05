import type { Clock } from "./clock";

/** The server closes a socket that brings more than 200 messages at once, or more than 40 a second after that. */
const BURST = 180;
const PER_S = 35;

/**
 * How many messages one socket may still bring without being too fast: the server's own count, a little lower.
 *
 * A message is spent when it is known to have arrived, which for a numbered frame is its ack; until then it stays
 * reserved. A line that stalls delivers at once what was sent over seconds, and a count by the time of sending
 * would allow another burst on top of that.
 */
export class Pace {
  readonly #clock: Clock;
  #level = BURST;
  #at: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#at = clock.now();
  }

  /** How many messages may be under way at once, now. */
  get level(): number {
    const now = this.#clock.now();
    this.#level = Math.min(BURST, this.#level + ((now - this.#at) / 1000) * PER_S);
    this.#at = now;
    return this.#level;
  }

  spend(count: number): void {
    this.#level = this.level - count;
  }

  /** Milliseconds until `count` messages may be under way; undefined: not before some of them have arrived. */
  waitFor(count: number): number | undefined {
    const { level } = this;
    if (count <= level) return 0;
    return count <= BURST ? Math.ceil(((count - level) / PER_S) * 1000) : undefined;
  }
}
