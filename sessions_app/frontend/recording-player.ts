/**
 * The recording beside the transcript: the turn that is heard is marked, and a turn's button plays from there. The
 * player itself is the browser's, and plays without this script.
 */
import { heardTurn, playFrom } from "./heard-turn";

/** A list has other lines too, and some have no place of their own. */
const TURNS = "li.line-caller:not([hidden]), li.line-agent:not([hidden])";

/** Connects the lines of `list` with the player of the page, whenever that has one. */
export function attachPlayer(list: HTMLOListElement): void {
  new RecordingPlayer(list);
}

class RecordingPlayer {
  readonly #list: HTMLOListElement;
  /** Who reads far from the player's place must still be able to stop it. */
  readonly #place = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) target.classList.toggle("is-floating", !isIntersecting);
  });
  #heard: HTMLElement | undefined;

  constructor(list: HTMLOListElement) {
    this.#list = list;
    list.addEventListener("click", ({ target }) => {
      const button = target instanceof Element ? target.closest("button.play") : null;
      const line = button?.closest<HTMLElement>("li[data-at-ms]");
      if (line) this.#playFrom(line);
    });
    // They do not bubble; and a page that was opened during the call gets its player later.
    for (const type of ["timeupdate", "seeking", "playing"]) this.#on(type, (audio) => this.#follow(audio));
    this.#on("playing", () => this.#begin());
    this.#on("ended", () => this.#end());
    this.#on("error", (audio) => this.#explain(audio));
  }

  get #section(): HTMLElement | null {
    return document.querySelector<HTMLElement>("#recording");
  }

  get #zeroMs(): number {
    return Number(this.#section?.dataset.zeroMs ?? 0);
  }

  #on(type: string, react: (audio: HTMLAudioElement) => unknown): void {
    const listener = ({ target }: Event) => {
      const audio = this.#section?.querySelector("audio");
      if (audio && target === audio) react(audio);
    };
    document.addEventListener(type, listener, { capture: true });
  }

  #playFrom(line: HTMLElement): void {
    const audio = this.#section?.querySelector("audio");
    if (!audio) return;
    audio.currentTime = playFrom(Number(line.dataset.atMs), this.#zeroMs);
    audio.play().catch((error: unknown) => {
      // What the player cannot fetch, its error event tells. A newer click may also end this one.
      console.debug("The recording does not play.", error);
    });
    this.#mark(line);
  }

  #begin(): void {
    this.#say("");
    if (this.#section) this.#place.observe(this.#section);
  }

  #end(): void {
    this.#mark(undefined);
    this.#place.disconnect();
    this.#section?.classList.remove("is-floating");
  }

  #follow(audio: HTMLAudioElement): void {
    if (audio.paused && !audio.seeking) return;
    const turns = [...this.#list.querySelectorAll<HTMLElement>(TURNS)];
    const at = turns.map(({ dataset }) => Number(dataset.atMs));
    this.#mark(turns[heardTurn(at, this.#zeroMs, audio.currentTime)]);
  }

  /** Scrolls only for a reader who has what was heard until now in sight: others read elsewhere. */
  #mark(line: HTMLElement | undefined): void {
    const before = this.#heard;
    if (line === before) return;
    const isFollowing = before?.isConnected === true && isInSight(before);
    before?.classList.remove("is-heard");
    before?.removeAttribute("aria-current");
    this.#heard = line;
    line?.classList.add("is-heard");
    line?.setAttribute("aria-current", "true");
    if (isFollowing && line) line.scrollIntoView({ block: "nearest" });
  }

  /** An audio element tells that it failed, and not why; the site says it in a sentence. */
  async #explain(audio: HTMLAudioElement): Promise<void> {
    this.#say(await reasonOf(audio.src));
    // Its controls work again: the next click is another try.
    audio.load();
  }

  #say(words: string): void {
    const trouble = this.#section?.querySelector<HTMLElement>(".recording-trouble");
    if (!trouble) return;
    trouble.textContent = words;
    trouble.hidden = words === "";
  }
}

async function reasonOf(url: string): Promise<string> {
  try {
    const response = await fetch(url, { headers: { Range: "bytes=0-0" }, redirect: "manual" });
    if (response.type === "opaqueredirect") return "You are signed out. Reload the page to sign in.";
    if (response.status === 403) return "You may no longer listen to this call.";
    if (response.ok) {
      await response.body?.cancel();
      return "The recording stopped, or this browser cannot play it. Press play to try again.";
    }
    const isSentence = response.headers.get("Content-Type")?.startsWith("text/plain");
    return isSentence ? await response.text() : "The recording cannot be played now. Try again later.";
  } catch {
    return "The site cannot be reached. Press play to try again.";
  }
}

function isInSight(line: HTMLElement): boolean {
  const { top, bottom } = line.getBoundingClientRect();
  return bottom > 0 && top < innerHeight;
}
