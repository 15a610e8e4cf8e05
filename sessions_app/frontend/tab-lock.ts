/** One call at a time in one browser: two tabs that talk would hear each other. */

const NAME = "voicedemo.call";

/** A Web Lock, which a browser gives back by itself when its page goes away, however it goes. */
export class TabLock {
  readonly #locks: LockManager | undefined;
  #release = () => {};
  /** Done when nothing of an earlier `take` is under way or held. */
  #free: Promise<unknown> = Promise.resolve();

  /** Browsers have no `navigator.locks` on insecure pages; those cannot call anyway. */
  constructor(locks: LockManager | undefined) {
    this.#locks = locks;
  }

  /**
   * Takes the lock; false: another tab holds it. With `here` it is taken from that tab, whose `onLost` is called.
   * One that this page holds is let go first.
   */
  async take(here: boolean, onLost: () => void): Promise<boolean> {
    const locks = this.#locks;
    if (!locks) return true;
    this.release();
    await this.#free;
    return new Promise((resolve, reject) => {
      let isHeld = false;
      const held = locks.request(NAME, here ? { steal: true } : { ifAvailable: true }, (lock) => {
        isHeld = lock !== null;
        resolve(isHeld);
        if (!isHeld) return undefined;
        return new Promise<void>((release) => {
          this.#release = release;
        });
      });
      // Rejected after it was given: stolen.
      this.#free = held.catch((error) => (isHeld ? onLost() : reject(error)));
    });
  }

  /** Whether this tab or another one holds it. */
  async isTaken(): Promise<boolean> {
    const { held = [] } = (await this.#locks?.query()) ?? {};
    return held.some(({ name }) => name === NAME);
  }

  release(): void {
    this.#release();
  }
}
