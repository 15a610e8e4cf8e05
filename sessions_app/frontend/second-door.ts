/**
 * Browsers allow 64 KiB for the bodies of all requests together that may outlive their page, and refuse what
 * is over that.
 */
const LASTING_BYTES = 60 * 1024;

/** The site's answer: its error's code, if any, and the log's last number, if it told it. */
export interface Answer {
  code?: unknown;
  ack?: number | undefined;
}

/** The second way into the log, by POST: for a page that is going away, and for what an earlier one left over. */
export interface Door {
  /** Bytes that a request may have which outlives the page, beside those that are under way. */
  readonly room: number;
  /** Rejects without a network, and if the answer is not the site's. */
  post(session: string, body: string, options?: { outlivesPage: boolean }): Promise<Answer>;
}

export class SecondDoor implements Door {
  readonly #url: string;
  readonly #csrfToken: string;
  #lasting = 0;

  /** `url`: under which the sessions are, with a slash at its end. */
  constructor(url: string, csrfToken: string) {
    this.#url = url;
    this.#csrfToken = csrfToken;
  }

  get room(): number {
    return LASTING_BYTES - this.#lasting;
  }

  async post(session: string, body: string, { outlivesPage } = { outlivesPage: false }): Promise<Answer> {
    const bytes = outlivesPage ? new TextEncoder().encode(body).length : 0;
    this.#lasting += bytes;
    try {
      const response = await fetch(`${this.#url}${session}/events/`, {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-CSRFToken": this.#csrfToken },
        body,
        keepalive: outlivesPage,
      });
      const { error, ack } = (await response.json()) as { error?: { code?: unknown }; ack?: number };
      return { code: error?.code, ack };
    } finally {
      this.#lasting -= bytes;
    }
  }
}
