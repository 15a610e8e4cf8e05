/**
 * Keeps the transcript in the admin live. The socket is only a doorbell: rows come from the server as HTML, the
 * same that a reload renders. Interim captions, which are never stored, come through the socket itself.
 */
import { Backoff } from "./backoff";
import { Doorbell, insertionIndex, offset, type RowPlace } from "./transcript-rows";

/** The socket's way to say that this reader may not (or no longer) watch the call. */
const NOT_YOURS = 4403;
/** How far above the end a reader still counts as being at the end, in px. */
const AT_END_PX = 64;
/** A fetch that hangs would hold up all that follow it. */
const FETCH_LIMIT_MS = 15_000;

const ROLES: Record<string, { kind: string; label: string; text: string }> = {
  input_audio_transcript: { kind: "caller", label: "Caller", text: "transcript" },
  response_text: { kind: "agent", label: "Agent", text: "text" },
};

interface Interim {
  at_ms: number;
  type: string;
  data: Record<string, unknown>;
}

type Message = { type: "recorded" } | { type: "interim"; frame: Interim };

/** How this page stands to the server. */
type Viewer = "connecting" | "connected" | "reconnecting" | "refused";

/** The server will not serve this reader any more; another try would not help. */
class Refused extends Error {}

function element<T extends Element>(selector: string, root: ParentNode = document): T {
  const found = root.querySelector<T>(selector);
  if (!found) throw new Error(`The page has no ${selector}.`);
  return found;
}

function placeOf(row: HTMLElement): RowPlace {
  const { atMs, source, seq } = row.dataset;
  // An interim line has no number yet: it stands after the rows of its moment.
  return {
    atMs: Number(atMs),
    source: source ?? "browser",
    seq: seq === undefined ? Number.POSITIVE_INFINITY : Number(seq),
  };
}

class LiveTranscript {
  readonly #list: HTMLOListElement;
  readonly #state = element<HTMLElement>("#call-state");
  readonly #latest = element<HTMLButtonElement>("#call-latest");
  readonly #interimLine = element<HTMLTemplateElement>("#interim-line");
  readonly #interims = new Map<string, HTMLElement>();
  readonly #backoff = new Backoff();
  readonly #doorbell = new Doorbell(() => this.#fetchRows());
  #socket: WebSocket | undefined;
  #viewer: Viewer = "connecting";
  #factsAt = performance.now();
  #factsAreOld = false;

  constructor(list: HTMLOListElement) {
    this.#list = list;
    this.#latest.addEventListener("click", () => this.#scrollToEnd());
    addEventListener("scroll", () => this.#hideLatestAtEnd(), { passive: true });
    setInterval(() => this.#showLength(), 1000);
    this.#connect();
  }

  #connect(): void {
    const url = new URL(this.#list.dataset.socketUrl ?? "", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url);
    this.#socket = socket;
    socket.addEventListener("message", ({ data }) => {
      const message = JSON.parse(data) as Message;
      if (message.type === "interim") this.#showInterim(message.frame);
      if (message.type !== "recorded") return;
      // The server rings once when it has let this page in: only now is it live, and what was missed is fetched.
      this.#show("connected");
      this.#ring();
    });
    socket.addEventListener("close", ({ code }) => {
      this.#clearInterims();
      if (code === NOT_YOURS) this.#show("refused");
      if (this.#viewer === "refused") return;
      this.#show("reconnecting");
      setTimeout(() => this.#connect(), this.#backoff.next());
    });
  }

  #ring(): void {
    this.#doorbell.ring().catch((error: unknown) => {
      if (error instanceof Refused) this.#show("refused");
      else console.warn("The transcript could not be brought up to date; trying again.", error);
      // A failed fetch counts as a lost socket: connecting again fetches again, and nothing stays missing.
      this.#socket?.close();
    });
  }

  async #fetchRows(): Promise<void> {
    const url = new URL(this.#list.dataset.eventsUrl ?? "", location.href);
    url.searchParams.set("after", this.#list.dataset.cursor ?? "");
    const response = await this.#get(url);
    const cursor = response.headers.get("X-Cursor");
    const state = response.headers.get("X-State");
    const proof = response.headers.get("X-Proof");
    if (cursor === null || state === null || proof === null)
      throw new Error(`${url.pathname} named no cursor, state or proof.`);
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const rows = [...page.querySelectorAll<HTMLElement>("li[data-seq]")];
    if (rows.length > 0) {
      this.#followingTheEnd(() => {
        for (const row of rows) this.#place(row);
      });
    }
    const { dataset } = this.#list;
    dataset.cursor = cursor;
    if (
      state !== dataset.state ||
      proof !== dataset.proof ||
      rows.some((row) => row.classList.contains("line-note"))
    ) {
      this.#factsAreOld = true;
    }
    dataset.state = state;
    dataset.proof = proof;
    if (state === "ended") this.#clearInterims();
    this.#show(this.#viewer);
    if (this.#factsAreOld) await this.#refreshFacts();
    this.#backoff.reset();
  }

  async #get(url: URL): Promise<Response> {
    // A reader who was signed out is redirected to the login page.
    const response = await fetch(url, { redirect: "manual", signal: AbortSignal.timeout(FETCH_LIMIT_MS) });
    if (response.type === "opaqueredirect" || response.status === 403) throw new Refused();
    if (!response.ok) throw new Error(`${url.pathname} answered ${response.status}.`);
    return response;
  }

  /** The server sends a row again when a later one has changed its looks (a text that was cut). */
  #place(row: HTMLElement): void {
    const { type = "", turn = "" } = row.dataset;
    for (const key of [`${type} ${turn}`, `${type} `]) {
      this.#interims.get(key)?.remove();
      this.#interims.delete(key);
    }
    const known = document.getElementById(row.id);
    if (known) known.replaceWith(row);
    else this.#insert(row);
  }

  #insert(row: HTMLElement): void {
    const rows = [...this.#list.children] as HTMLElement[];
    this.#list.insertBefore(row, rows[insertionIndex(rows.map(placeOf), placeOf(row))] ?? null);
  }

  #showInterim({ at_ms, type, data }: Interim): void {
    const role = ROLES[type];
    const text = role && data[role.text];
    const turn = typeof data.turn_id === "string" ? data.turn_id : "";
    if (!role || typeof text !== "string" || this.#hasFinal(type, turn, at_ms)) return;
    this.#followingTheEnd(() => {
      const key = `${type} ${turn}`;
      let line = this.#interims.get(key);
      if (!line) {
        line = element<HTMLElement>("li", this.#interimLine.content).cloneNode(true) as HTMLElement;
        line.classList.add(`line-${role.kind}`);
        line.dataset.atMs = String(at_ms);
        element(".at", line).textContent = offset(at_ms);
        element(".who b", line).textContent = role.label;
        this.#interims.set(key, line);
        this.#insert(line);
      }
      element(".words", line).textContent = text;
    });
  }

  /** Whether the turn's final row came first: it is fetched on another way than its interim texts. */
  #hasFinal(type: string, turn: string, atMs: number): boolean {
    const rows = this.#list.querySelectorAll<HTMLElement>("li[data-seq]");
    return [...rows].some(
      ({ dataset }) => dataset.type === type && (dataset.turn ?? "") === turn && Number(dataset.atMs) >= atMs,
    );
  }

  #clearInterims(): void {
    for (const line of this.#interims.values()) line.remove();
    this.#interims.clear();
  }

  /** The call's data above the transcript, as the server renders them now. */
  async #refreshFacts(): Promise<void> {
    const response = await this.#get(new URL(location.href));
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    for (const part of ["#call-facts", "#call-proof"]) element(part).replaceWith(element(part, page));
    this.#factsAt = performance.now();
    this.#factsAreOld = false;
  }

  #showLength(): void {
    const length = document.querySelector<HTMLElement>("#call-facts [data-elapsed-ms]");
    if (length) {
      length.textContent = offset(Number(length.dataset.elapsedMs) + performance.now() - this.#factsAt);
    }
  }

  #show(viewer: Viewer): void {
    this.#viewer = viewer;
    const call = this.#list.dataset.state ?? "created";
    if (viewer === "refused")
      this.#say("refused", "You may no longer watch this call. Reload the page to sign in.");
    else if (call === "ended") this.#say("ended", "Ended");
    else if (viewer === "reconnecting") this.#say("reconnecting", "Reconnecting…");
    else if (viewer === "connected") this.#say(call, call === "live" ? "Live" : "Waiting for the caller");
  }

  #say(look: string, words: string): void {
    this.#state.className = `call-state call-state-${look}`;
    // Only a change is written: each one is read out to those who listen to the page.
    if (this.#state.textContent !== words) this.#state.textContent = words;
  }

  #isAtEnd(): boolean {
    return this.#list.getBoundingClientRect().bottom <= innerHeight + AT_END_PX;
  }

  /** A reader at the end stays there; one who reads further up is not moved, and told of new lines. */
  #followingTheEnd(change: () => void): void {
    const wasAtEnd = this.#isAtEnd();
    change();
    if (wasAtEnd) this.#scrollToEnd();
    else this.#latest.hidden = this.#isAtEnd();
  }

  #scrollToEnd(): void {
    scrollTo({ top: document.documentElement.scrollHeight });
    this.#latest.hidden = true;
  }

  #hideLatestAtEnd(): void {
    if (this.#isAtEnd()) this.#latest.hidden = true;
  }
}

const list = document.querySelector<HTMLOListElement>("#transcript");
if (list) new LiveTranscript(list);
