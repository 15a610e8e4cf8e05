/** Keeps the screen on during a call: a phone that locks itself puts the page, and so the call, to sleep. */
export class WakeLock {
  #isWanted = false;
  #sentinel: WakeLockSentinel | undefined;

  constructor() {
    // Browsers give it back whenever the page is hidden, for a moment too.
    document.addEventListener("visibilitychange", () => void this.#request());
  }

  want(isWanted: boolean): void {
    if (isWanted === this.#isWanted) return;
    this.#isWanted = isWanted;
    if (isWanted) void this.#request();
    else this.#drop();
  }

  async #request(): Promise<void> {
    if (!this.#isWanted || document.visibilityState !== "visible" || !("wakeLock" in navigator)) return;
    try {
      const sentinel = await navigator.wakeLock.request("screen");
      this.#sentinel?.release().catch(() => undefined); // the browser has given it back already
      this.#sentinel = sentinel;
      if (!this.#isWanted) this.#drop();
    } catch {
      // A low battery, or a policy: the screen goes dark as it would without a call, which goes on.
    }
  }

  #drop(): void {
    this.#sentinel?.release().catch(() => undefined); // the browser has given it back already
    this.#sentinel = undefined;
  }
}
