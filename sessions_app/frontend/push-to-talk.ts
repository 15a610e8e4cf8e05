import { find } from "./elements";

export interface KeysOptions {
  isLive: () => boolean;
  /** What push-to-talk asks for. */
  onMute: (isMuted: boolean) => void;
  onToggleMute: () => void;
  onHangUp: () => void;
}

/** As `aria-keyshortcuts` has them. */
const SHORTCUTS = { "#mute": "Alt+M", "#hang-up": "Alt+H", "#talk-key": "Space" };
/** Here a space is a space. */
const WRITING = "select, textarea, [contenteditable], input:not([type=checkbox], [type=radio])";
/** Here it presses what has the focus. */
const CONTROLS = "button, input, summary";
/** No finger is so quick: a screen reader or a voice control has pressed the button, and cannot hold it. */
const TOUCH_MS = 30;
/** The click that a touch becomes, comes after it within this time. */
const CLICK_MS = 1_000;

/**
 * The keys of a call, and the button that is held to talk. While push-to-talk is on, the caller is muted except
 * while Space or the button is held. Assistive technology that can only click the button talks from one click to
 * the next.
 */
export class Keys {
  readonly #options: KeysOptions;
  readonly #hangUp = find<HTMLButtonElement>("#hang-up");
  readonly #talkKey = find<HTMLButtonElement>("#talk-key");
  #isOn = false;
  #isLive = false;
  /** What keeps the microphone open. */
  #hold: "" | "Space" | "Enter" | "pointer" | "click" = "";
  #press = { pointer: 0, at: 0, isEnd: false };
  #pressEndedAt = Number.NEGATIVE_INFINITY;
  /** After a click or a touch the focus is on what was pressed, unseen: nobody means that by a key. */
  #isFocusSeen = true;

  constructor(options: KeysOptions) {
    this.#options = options;
    for (const [button, keys] of Object.entries(SHORTCUTS))
      find(button).setAttribute("aria-keyshortcuts", keys);

    document.addEventListener("keydown", (event) => this.#keyDown(event));
    document.addEventListener("keyup", (event) => this.#keyUp(event));
    // Their ends may never come: another window has them now, or the system has.
    addEventListener("blur", () => this.#release());
    document.addEventListener("visibilitychange", () => document.hidden && this.#release());

    document.addEventListener("pointerdown", () => {
      this.#isFocusSeen = false;
    });
    this.#talkKey.addEventListener("pointerdown", (event) => this.#pointerDown(event));
    for (const end of ["pointerup", "pointercancel"] as const) {
      document.addEventListener(end, (event) => this.#pointerEnd(event));
    }
    this.#talkKey.addEventListener("click", (event) => this.#click(event));
    this.#talkKey.addEventListener("contextmenu", (event) => event.preventDefault()); // a long touch opens it

    new MutationObserver(() => this.#followCall()).observe(find("#talk"), {
      attributeFilter: ["data-state"],
    });
  }

  /** In a call, on mutes at once and off unmutes. */
  setPushToTalk(isOn: boolean): void {
    if (isOn === this.#isOn) return;
    this.#isOn = isOn;
    this.#hold = "";
    this.#showTalkKey();
    if (this.#options.isLive()) this.#options.onMute(isOn);
  }

  #keyDown(event: KeyboardEvent): void {
    if (event.key === "Tab") this.#isFocusSeen = true;
    if (event.key === "Meta") this.#release(); // macOS tells of no key's end while Command is held
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.altKey) this.#shortcut(event);
    else if (this.#isTalking(event)) {
      event.preventDefault();
      if (!event.repeat) this.#talk(isSpace(event) ? "Space" : "Enter");
    }
  }

  /** By the letter; by its place on the keyboard where Alt makes it another one (macOS), or the script is another. */
  #shortcut(event: KeyboardEvent): void {
    const letter = /^[ -~]$/.test(event.key) ? event.key.toUpperCase() : event.code.replace("Key", "");
    const wish =
      letter === "M" && this.#options.isLive()
        ? this.#options.onToggleMute
        : letter === "H" && !this.#hangUp.hidden
          ? this.#options.onHangUp
          : undefined;
    if (!wish) return;
    event.preventDefault();
    if (!event.repeat) wish();
  }

  #isTalking(event: KeyboardEvent): boolean {
    if (!this.#isOn || !this.#options.isLive()) return false;
    const target = event.target instanceof Element ? event.target : document.body;
    if (target === this.#talkKey) return isSpace(event) || event.key === "Enter";
    if (!isSpace(event) || target.closest(WRITING)) return false;
    return !(this.#isFocusSeen && target.closest(CONTROLS));
  }

  #keyUp(event: KeyboardEvent): void {
    const key = isSpace(event) ? "Space" : event.key;
    if (key !== this.#hold) return;
    event.preventDefault(); // the button, or the checkbox, that has the focus would take it for a click
    this.#release();
  }

  #pointerDown({ button, pointerId, timeStamp }: PointerEvent): void {
    if (button !== 0) return;
    this.#press = { pointer: pointerId, at: timeStamp, isEnd: this.#hold === "click" };
    this.#talk("pointer");
  }

  #pointerEnd({ type, pointerId, timeStamp }: PointerEvent): void {
    const { pointer, at, isEnd } = this.#press;
    if (this.#hold !== "pointer" || pointerId !== pointer) return;
    this.#pressEndedAt = timeStamp;
    if (type === "pointerup" && timeStamp - at < TOUCH_MS && !isEnd) this.#hold = "click";
    else this.#release();
  }

  /** Of assistive technology that clicks without a pointer; other clicks have been heard as presses. */
  #click({ timeStamp }: MouseEvent): void {
    if (timeStamp - this.#pressEndedAt < CLICK_MS) return;
    if (this.#hold === "click") this.#release();
    else this.#talk("click");
  }

  #talk(by: "Space" | "Enter" | "pointer" | "click"): void {
    if (!this.#isOn || !this.#options.isLive()) return;
    const isNew = !this.#hold;
    this.#hold = by;
    this.#showTalkKey();
    if (isNew) this.#options.onMute(false);
  }

  #release(): void {
    if (!this.#hold) return;
    this.#hold = "";
    this.#showTalkKey();
    if (this.#options.isLive()) this.#options.onMute(true);
  }

  #followCall(): void {
    const isLive = this.#options.isLive();
    if (isLive === this.#isLive) return;
    this.#isLive = isLive;
    this.#hold = "";
    this.#showTalkKey();
    if (!isLive) return;
    this.#options.onMute(this.#isOn); // it may have been turned on or off while the call was connecting
    // There the page has put the focus, and Space would end the call.
    if (this.#isOn && document.activeElement === this.#hangUp) this.#talkKey.focus();
  }

  #showTalkKey(): void {
    const hadFocus = document.activeElement === this.#talkKey;
    this.#talkKey.hidden = !this.#isOn || !this.#isLive;
    this.#talkKey.ariaPressed = String(this.#hold !== "");
    if (hadFocus && this.#talkKey.hidden) find(this.#isLive ? "#mute" : "#start").focus();
  }
}

function isSpace({ key, code }: KeyboardEvent): boolean {
  return key === " " || code === "Space";
}
