/** How far above the end a reader still counts as being at the end, in px. */
const AT_END_PX = 64;

/** A reader at the end stays there; one who reads further up is not moved, and is told how much is new. */
export class TranscriptEnd {
  readonly #list: HTMLElement;
  readonly #button: HTMLButtonElement;
  #newTurns = 0;

  constructor(list: HTMLElement, button: HTMLButtonElement) {
    this.#list = list;
    this.#button = button;
    button.addEventListener("click", () => this.#scrollThere());
    addEventListener("scroll", () => this.#isThere() && this.#hide(), { passive: true });
  }

  /** `change`: what adds to the list, or changes it; it returns how many turns it has added. */
  follow(change: () => number): void {
    const wasThere = this.#isThere();
    const newTurns = change();
    if (wasThere) this.#scrollThere();
    else if (!this.#isThere()) this.#show(newTurns);
  }

  #show(newTurns: number): void {
    this.#newTurns += newTurns;
    this.#button.textContent = wordsFor(this.#newTurns);
    this.#button.hidden = false;
  }

  #hide(): void {
    this.#newTurns = 0;
    this.#button.hidden = true;
  }

  #isThere(): boolean {
    return this.#list.getBoundingClientRect().bottom <= innerHeight + AT_END_PX;
  }

  #scrollThere(): void {
    const { bottom } = this.#list.getBoundingClientRect();
    // Not further: beside and below the list there may be more of the page.
    scrollBy({ top: Math.max(0, bottom - innerHeight + AT_END_PX / 2) });
    this.#hide();
  }
}

export function wordsFor(newTurns: number): string {
  if (newTurns === 0) return "New lines below";
  return newTurns === 1 ? "1 new turn" : `${newTurns} new turns`;
}
