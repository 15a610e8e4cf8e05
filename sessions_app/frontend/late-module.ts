/** A network that swallows what is asked of it must not keep the visitor waiting for ever. */
const LIMIT_MS = 20_000;

/** A script that is fetched when it is likely to be needed. */
export class LateModule<T> {
  readonly #url: string;
  #loading: Promise<T> | undefined;
  #tries = 0;

  constructor(url: string) {
    this.#url = url;
  }

  get isLoading(): boolean {
    return this.#loading !== undefined;
  }

  /** Fetches and runs it, once. Rejects if it cannot be had in time; the next call tries again. */
  load(): Promise<T> {
    // Browsers remember a module that failed to load; another address makes them ask again.
    const url = this.#tries === 0 ? this.#url : `${this.#url}?again=${this.#tries}`;
    this.#loading ??= new Promise<T>((resolve, reject) => {
      setTimeout(() => reject(new Error("The network is too slow.")), LIMIT_MS);
      import(url).then(resolve, reject);
    }).catch((error: unknown) => {
      this.#loading = undefined;
      this.#tries += 1;
      throw error;
    });
    return this.#loading;
  }
}
