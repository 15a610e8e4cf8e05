/** As long as a reader waits without a word. */
const LIMIT_MS = 15_000;

const OFFLINE = "It could not be saved: the site was not reached. Try again.";

/**
 * Notes, labels and marks, without leaving the page: what is heard goes on, and nothing moves. Without this script
 * the same forms are posted, and the page comes again.
 */
export class StaffForms {
  readonly #page: HTMLElement;
  readonly #onSaved: () => void;
  readonly #template: HTMLTemplateElement | null;
  readonly #trouble: HTMLElement | null;

  /** `onSaved`: something has changed, and is to be shown. */
  constructor(page: HTMLElement, onSaved: () => void) {
    this.#page = page;
    this.#onSaved = onSaved;
    this.#template = page.querySelector("#note-form-template");
    this.#trouble = page.querySelector("#call-trouble");
    page.addEventListener("click", (event) => this.#click(event));
    page.addEventListener("submit", (event) => this.#submit(event));
  }

  /** The form for a note, if it is open. */
  get #open(): HTMLFormElement | null {
    return this.#page.querySelector("#note-form");
  }

  #click(event: MouseEvent): void {
    if (!(event.target instanceof Element) || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const add = event.target.closest<HTMLElement>(".add-note");
    if (add && this.#template) {
      event.preventDefault();
      this.#openFor(add);
    } else if (event.target.closest(".note-cancel")) {
      event.preventDefault();
      this.#close();
    }
  }

  #openFor(add: HTMLElement): void {
    const { line = "" } = add.dataset;
    const known = this.#open;
    // What is written already is taken along: a reader may have begun it at the wrong line.
    const words = known?.querySelector("textarea")?.value ?? "";
    known?.remove();
    const form = this.#template?.content.querySelector("form")?.cloneNode(true);
    if (!(form instanceof HTMLFormElement)) return;
    const [field, label, area] = [
      form.querySelector<HTMLInputElement>("[name=line]"),
      form.querySelector("label"),
      form.querySelector("textarea"),
    ];
    if (!field || !label || !area) throw new Error("The form for notes lacks a field.");
    field.value = line;
    if (line) label.textContent = "Note on this line";
    area.value = words;
    notesOf(add.closest(".line") ?? add.parentElement ?? this.#page).append(form);
    area.focus();
  }

  #close(): void {
    const form = this.#open;
    const place = form?.closest(".line, .call-box");
    form?.remove();
    place?.querySelector<HTMLElement>(".add-note")?.focus();
  }

  #submit(event: SubmitEvent): void {
    const { target: form, submitter } = event;
    if (!(form instanceof HTMLFormElement) || form.method !== "post") return;
    // A button's own property would say the page's address where it has none.
    const action = new URL(submitter?.getAttribute("formaction") ?? form.action, location.href);
    // Whatever is not about notes, labels and marks leads to another page, or to a message above this one.
    if (!/\/(note|label|mark)\/$/.test(action.pathname)) return;
    event.preventDefault();
    void this.#save(form, action, new FormData(form, submitter));
  }

  async #save(form: HTMLFormElement, action: URL, data: FormData): Promise<void> {
    const trouble = form.querySelector<HTMLElement>(".note-trouble") ?? this.#trouble;
    const said = await post(action, data);
    if (trouble) {
      trouble.textContent = said;
      trouble.hidden = !said;
    }
    if (said) return;
    if (form.id === "note-form") this.#close();
    this.#onSaved();
  }
}

/** Where the notes of a line stand. */
function notesOf(place: Element): Element {
  const known = place.querySelector(":scope > .notes");
  if (known) return known;
  const notes = document.createElement("div");
  notes.className = "notes";
  place.append(notes);
  return notes;
}

/** Puts a line in the place of an older look of it; the form for a note that is open there goes along. */
export function replaceRow(old: Element, row: Element): void {
  const form = old.querySelector("#note-form");
  const focused = form?.contains(document.activeElement) ? document.activeElement : null;
  if (form) notesOf(row).append(form);
  old.replaceWith(row);
  if (focused instanceof HTMLElement) focused.focus();
}

/** What went wrong, as a sentence; "" if nothing did. */
async function post(url: URL, body: FormData): Promise<string> {
  try {
    const headers = { Accept: "text/plain" };
    const signal = AbortSignal.timeout(LIMIT_MS);
    const response = await fetch(url, { method: "POST", body, headers, signal, redirect: "manual" });
    if (response.ok) return "";
    if (response.status === 422) return await response.text();
    if (response.status >= 500)
      return `It could not be saved: the site answered ${response.status}. Try again.`;
    return "It was not saved: you may not do that any more. Reload the page to sign in.";
  } catch {
    return OFFLINE;
  }
}
