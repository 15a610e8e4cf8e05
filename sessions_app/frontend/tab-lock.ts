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
   * Takes the lock; false: another tab holds it, or it was released meanwhile. With `here` it is taken from that
   * tab, whose `onLost` is called. One that this page holds is let go first.
   */
  async take(here: boolean, onLost: () => void): Promise<boolean> {
    const locks = this.#locks;
    if (!locks) return true;
    this.release();
    let isWanted = true;
    this.#release = () => {
      isWanted = false;
    };
    const before = this.#free;
    let finish = () => {};
    this.#free = new Promise<void>((resolve) => {
      finish = resolve;
    });
    await before;
    return new Promise((resolve, reject) => {
      let isHeld = false;
      locks
        .request(NAME, here ? { steal: true } : { ifAvailable: true }, (lock) => {
          isHeld = lock !== null && isWanted;
          resolve(isHeld);
          if (!isHeld) return undefined;
          return new Promise<void>((release) => {
            this.#release = release;
          });
        })
        // Rejected after it was given: stolen.
        .catch((error) => (isHeld ? onLost() : reject(error)))
        .finally(finish);
    });
  }

  /** Whether this tab or another one holds it. */
  async isTaken(): Promise<boolean> {
    const { held = [] } = (await this.#locks?.query()) ?? {};
    return held.some(({ name }) => name === NAME);
  }

  /** Gives the lock back, or gives up waiting for it. */
  release(): void {
    this.#release();
  }
}
