/**
 * Keeps the transcript in the admin live. The socket is only a doorbell: rows come from the server as HTML, the
 * same that a reload renders. Interim captions, which are never stored, come through the socket itself.
 */
import { Backoff } from "./backoff";
import { CallHead } from "./call-head";
import { find, setText } from "./elements";
import { fetchFragment, Refused } from "./fragment";
import { replaceRow } from "./staff-forms";
import { TranscriptEnd } from "./transcript-end";
import { Doorbell, insertionIndex, offset, type RowPlace } from "./transcript-rows";

/** The socket's way to say that this reader may not (or no longer) watch the call. */
const NOT_YOURS = 4403;

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

function part<T extends Element>(selector: string, root: ParentNode): T {
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

export class LiveTranscript {
  readonly #list: HTMLOListElement;
  readonly #state = find("#call-state");
  readonly #interimLine = find<HTMLTemplateElement>("#interim-line");
  readonly #end: TranscriptEnd;
  readonly #head: CallHead;
  readonly #interims = new Map<string, HTMLElement>();
  readonly #backoff = new Backoff();
  readonly #doorbell = new Doorbell(() => this.#fetchRows());
  #socket: WebSocket | undefined;
  #viewer: Viewer = "connecting";

  constructor(list: HTMLOListElement) {
    this.#list = list;
    this.#end = new TranscriptEnd(list, find<HTMLButtonElement>("#call-latest"));
    const url = new URL(find("#content-main").dataset.timelineUrl ?? "", location.href);
    this.#head = new CallHead(url, (error) => this.#stumble(error));
    this.#connect();
  }

  /** Looks for what is new, now. */
  look(): void {
    this.#ring();
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
    this.#doorbell.ring().catch((error: unknown) => this.#stumble(error));
  }

  #stumble(error: unknown): void {
    if (error instanceof Refused) this.#show("refused");
    else console.warn("The transcript could not be brought up to date; trying again.", error);
    // A failed fetch counts as a lost socket: connecting again fetches again, and nothing stays missing.
    this.#socket?.close();
  }

  async #fetchRows(): Promise<void> {
    const { dataset } = this.#list;
    const { headers, rows } = await this.#fetch(dataset.cursor ?? "");
    const [cursor, state, head, notes] = ["X-Cursor", "X-State", "X-Head", "X-Notes"].map((name) =>
      headers.get(name),
    );
    if (cursor == null || state == null || head == null || notes == null)
      throw new Error("The rows came without their cursor, state or marks.");
    // Notes stand in lines of any age. They are rare, so all lines are fetched, and only those that differ replaced.
    const changed = notes === dataset.notes ? rows : (await this.#fetch("")).rows;
    this.#place(changed);
    if (rows.length > 0 || state !== dataset.state || head !== dataset.head || this.#head.isOld) {
      this.#head.refresh();
    }
    Object.assign(dataset, { cursor, state, head, notes });
    if (state === "ended") this.#clearInterims();
    this.#show(this.#viewer);
    this.#backoff.reset();
  }

  async #fetch(after: string): Promise<{ headers: Headers; rows: HTMLElement[] }> {
    const url = new URL(this.#list.dataset.eventsUrl ?? "", location.href);
    url.searchParams.set("after", after);
    const { headers, fragment } = await fetchFragment(url);
    return { headers, rows: [...fragment.querySelectorAll<HTMLElement>("li[data-seq]")] };
  }

  #place(rows: HTMLElement[]): void {
    if (rows.length === 0) return;
    const known = new Map(
      [...this.#list.querySelectorAll<HTMLElement>(":scope > li[data-seq]")].map((row) => [nameOf(row), row]),
    );
    this.#end.follow(() => rows.filter((row) => this.#placeOne(row, known.get(nameOf(row)))).length);
  }

  /**
   * Whether it is a turn that was not there. The server sends a row again when a later one has changed its looks (a
   * text that was cut).
   */
  #placeOne(row: HTMLElement, old: HTMLElement | undefined): boolean {
    const { type = "", turn = "" } = row.dataset;
    for (const key of [`${type} ${turn}`, `${type} `]) {
      this.#interims.get(key)?.remove();
      this.#interims.delete(key);
    }
    if (!old) this.#insert(row);
    else if (!old.isEqualNode(row)) replaceRow(old, row);
    return !old && !row.hidden && type in ROLES;
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
    this.#end.follow(() => {
      const key = `${type} ${turn}`;
      let line = this.#interims.get(key);
      if (!line) {
        line = part<HTMLElement>("li", this.#interimLine.content).cloneNode(true) as HTMLElement;
        line.classList.add(`line-${role.kind}`);
        line.dataset.atMs = String(at_ms);
        part(".at", line).textContent = offset(at_ms);
        part(".who b", line).textContent = role.label;
        this.#interims.set(key, line);
        this.#insert(line);
      }
      part(".words bdi", line).textContent = text;
      return 0;
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
    setText(this.#state, words); // only a change: each one is read out to those who listen to the page
  }
}

function nameOf({ dataset }: HTMLElement): string {
  return `${dataset.source}-${dataset.seq}`;
}
