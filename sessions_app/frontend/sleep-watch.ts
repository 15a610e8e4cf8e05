import type { Clock } from "./clock";

const TICK_MS = 10_000;
/** A page whose timers are later than this has not been running: the lid was closed. */
const ASLEEP_MS = 30_000;

export interface Sleep {
  /** The clock's reading when the page was last known to run, in ms. */
  began: number;
  /** How long the page has not been running. */
  for_ms: number;
  /** Of it, how long the call's clock has stood still: some systems stop it, some do not. */
  stopped_ms: number;
}

/** Notices that the page did not run for a while, soon after it runs again. */
export class SleepWatch {
  readonly #clock: Clock;
  readonly #onSleep: (sleep: Sleep) => void;
  #seen = { date: 0, now: 0 };
  #cancel = () => {};

  constructor(clock: Clock, onSleep: (sleep: Sleep) => void) {
    this.#clock = clock;
    this.#onSleep = onSleep;
    this.#rest();
  }

  /** Looks now: the page has just been shown again, and its timer may be far away. */
  look(): void {
    const { date, now } = this.#seen;
    const passed = this.#clock.date() - date;
    const stopped_ms = Math.max(0, passed - (this.#clock.now() - now));
    this.#rest();
    const for_ms = Math.max(stopped_ms, passed - TICK_MS);
    if (for_ms > ASLEEP_MS) this.#onSleep({ began: now, for_ms, stopped_ms });
  }

  close(): void {
    this.#cancel();
  }

  #rest(): void {
    this.#cancel();
    this.#seen = { date: this.#clock.date(), now: this.#clock.now() };
    this.#cancel = this.#clock.after(TICK_MS, () => this.look());
  }
}
