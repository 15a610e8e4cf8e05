/** Time as the call and the relay see it: monotonic milliseconds, and timers that can be cancelled. */
export interface Clock {
  now(): number;
  /** Milliseconds since 1970: goes on while the machine sleeps, where `now` may stand still. */
  date(): number;
  /** Runs `task` once after `ms`; the returned function cancels it. */
  after(ms: number, task: () => void): () => void;
}

export const browserClock: Clock = {
  now: () => performance.now(),
  date: () => Date.now(),
  after(ms, task) {
    const timer = setTimeout(task, ms);
    return () => clearTimeout(timer);
  },
};
