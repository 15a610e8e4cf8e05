import type { Clock } from "./clock";

/** Runs a task soon after it was asked for, but not again before `ms` have gone by since it ended. */
export class Throttle {
  readonly #clock: Clock;
  readonly #ms: number;
  readonly #task: () => Promise<void>;
  #isResting = false;
  #isWanted = false;

  /** `task` must not reject. */
  constructor(clock: Clock, ms: number, task: () => Promise<void>) {
    this.#clock = clock;
    this.#ms = ms;
    this.#task = task;
  }

  ask(): void {
    this.#isWanted = true;
    if (!this.#isResting) void this.#run();
  }

  async #run(): Promise<void> {
    this.#isResting = true;
    this.#isWanted = false;
    await this.#task();
    this.#clock.after(this.#ms, () => {
      this.#isResting = false;
      if (this.#isWanted) void this.#run();
    });
  }
}
