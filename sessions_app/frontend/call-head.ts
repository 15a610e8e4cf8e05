import { browserClock } from "./clock";
import { find } from "./elements";
import { fetchFragment } from "./fragment";
import { Throttle } from "./throttle";
import { offset } from "./transcript-rows";

/** A call of an hour takes the server a tenth of a second; nobody reads a picture faster than this changes. */
const REST_MS = 3000;

/** What stands around the lines, and is fetched anew when lines came or something else has changed. */
export class CallHead {
  readonly #url: URL;
  readonly #throttle: Throttle;
  #renderedAt = performance.now();
  #isOld = false;

  /** `onTrouble`: it could not be fetched. */
  constructor(url: URL, onTrouble: (error: unknown) => void) {
    this.#url = url;
    this.#throttle = new Throttle(browserClock, REST_MS, () => this.#fetch().catch(onTrouble));
    setInterval(() => this.#showLength(), 1000);
  }

  /** Whether something has changed that is not shown yet. */
  get isOld(): boolean {
    return this.#isOld;
  }

  refresh(): void {
    this.#isOld = true;
    this.#throttle.ask();
  }

  async #fetch(): Promise<void> {
    const { fragment } = await fetchFragment(this.#url);
    this.#isOld = false;
    for (const part of fragment.querySelectorAll<HTMLElement>("[data-part]")) {
      const old = find(`#${part.id}`);
      const isThere = part.dataset.part === "once" && old.childElementCount > 0;
      if (isThere || old.isEqualNode(part)) continue;
      const keep = keeper(old);
      old.replaceWith(part);
      keep(part);
    }
    this.#renderedAt = performance.now();
  }

  #showLength(): void {
    const length = document.querySelector<HTMLElement>("#call-facts [data-elapsed-ms]");
    if (length) {
      const ms = Number(length.dataset.elapsedMs) + performance.now() - this.#renderedAt;
      length.textContent = offset(ms);
    }
  }
}

/** Remembers what a reader has opened and focused and how far they have scrolled, for the part that comes instead. */
function keeper(old: HTMLElement): (part: HTMLElement) => void {
  const open = [...old.querySelectorAll<HTMLDetailsElement>("details[id][open]")].map(({ id }) => id);
  const scrolled = old.querySelector<HTMLElement>("#tl-scroll");
  const left = scrolled?.scrollLeft ?? 0;
  const wasAtEnd = scrolled ? left + scrolled.clientWidth >= scrolled.scrollWidth - 8 : false;
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  return (part) => {
    for (const id of open) part.querySelector(`#${id}`)?.setAttribute("open", "");
    const scroll = part.querySelector<HTMLElement>("#tl-scroll");
    if (scroll) scroll.scrollLeft = wasAtEnd && left > 0 ? scroll.scrollWidth : left;
    if (focused) (twin(focused, part) ?? part.querySelector<HTMLElement>("summary, button, a"))?.focus();
  };
}

/** What does the same as `focused` in the part that has come in its place, or undoes it. */
function twin(focused: Element, part: HTMLElement): HTMLElement | null {
  if (focused.id) return part.querySelector(`#${CSS.escape(focused.id)}`);
  if (focused instanceof HTMLButtonElement)
    return part.querySelector(`button[value="${CSS.escape(focused.value)}"]`);
  const id = focused.parentElement?.id;
  return id ? part.querySelector(`#${CSS.escape(id)} > ${focused.tagName}`) : null;
}
