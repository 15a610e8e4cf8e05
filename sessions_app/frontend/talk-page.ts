import type { CallState, LiveState } from "./call";
import { FAILURE_TEXTS, type FailureCode, type FailureText } from "./call-failures";
import { cutCaption, type Spoken } from "./captions";
import { isErrorOutput, type Say, type ToolCall } from "./events";
import type { ToolPage } from "./page-tools";
import type { Standing } from "./relay";
import { allowedStorage } from "./storage";

/** What the visitor asks for. */
export interface TalkWishes {
  /** A call is likely soon: the pointer or the focus has reached the button. */
  onIntent: () => void;
  onStart: (agentId: string) => void;
  onHangUp: () => void;
  onMute: (isMuted: boolean) => void;
  onUnblockPlayback: () => void;
}

interface Caption extends Spoken {
  item: HTMLLIElement;
  words: HTMLElement;
}

const STANDINGS = {
  sent: "",
  kept: "The transcript is being kept on this device until the site takes it.",
  held: "The transcript is waiting for the site. Keep this page open.",
} as const satisfies Record<Exclude<Standing, object>, string>;

const THEME_KEY = "theme";
/** This close to the newest caption counts as having it in sight. */
const FOLLOW_PX = 120;

/** The talk page's document: all that is read from it or changed in it. */
export class TalkPage implements ToolPage {
  readonly #main = find<HTMLElement>("#talk");
  readonly #status = find<HTMLElement>("#status");
  readonly #timer = find<HTMLElement>("#timer");
  readonly #standing = find<HTMLElement>("#standing");
  readonly #failure = find<HTMLElement>("#failure");
  readonly #log = find<HTMLElement>("#captions");
  readonly #list = find<HTMLOListElement>("#captions ol");
  readonly #agent = find<HTMLSelectElement | HTMLInputElement>("[name=agent_id]");
  readonly #start = find<HTMLButtonElement>("#start");
  readonly #mute = find<HTMLButtonElement>("#mute");
  readonly #hangUp = find<HTMLButtonElement>("#hang-up");
  readonly #unblock = find<HTMLButtonElement>("#unblock");

  readonly #localStorage = allowedStorage("localStorage");
  readonly #captions = new Map<string, Caption>();
  readonly #tools = new Map<string, HTMLLIElement>();
  /** The newest caption is in sight, and is kept there; a visitor who scrolls up wants to read. */
  #follows = true;
  #mustReload = false;
  #liveSince: number | undefined;
  #ticking: ReturnType<typeof setInterval> | undefined;

  constructor(wishes: TalkWishes) {
    const theme = this.#localStorage?.getItem(THEME_KEY);
    if (theme === "dark" || theme === "light") this.setTheme(theme);
    this.#start.addEventListener("click", () =>
      this.#mustReload ? location.reload() : wishes.onStart(this.#agent.value),
    );
    this.#hangUp.addEventListener("click", wishes.onHangUp);
    this.#unblock.addEventListener("click", wishes.onUnblockPlayback);
    this.#mute.addEventListener("click", () =>
      wishes.onMute(this.#mute.getAttribute("aria-pressed") !== "true"),
    );
    for (const sign of ["pointerenter", "pointerdown", "touchstart", "focus"]) {
      this.#start.addEventListener(sign, wishes.onIntent, { passive: true });
    }
    const nameAgent = () => setText(find("#agent-name"), this.#agentName);
    this.#agent.addEventListener("change", nameAgent);
    nameAgent(); // a reload may have kept another choice than the page came with
    this.#log.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = this.#log;
      this.#follows = scrollHeight - scrollTop - clientHeight < FOLLOW_PX;
    });
    // The captions grow, or the buttons below take their room.
    const resized = new ResizeObserver(() => {
      if (this.#follows) this.#log.scrollTop = this.#log.scrollHeight;
    });
    resized.observe(this.#list);
    resized.observe(this.#log);
  }

  get sdkUrl(): string {
    return this.#main.dataset.sdkUrl ?? "";
  }

  get mintUrl(): string {
    return this.#main.dataset.mintUrl ?? "";
  }

  get csrfToken(): string {
    return find<HTMLMetaElement>("meta[name=csrf-token]").content;
  }

  get remoteAudioContainer(): HTMLElement {
    return find("#remote-audio");
  }

  get #agentName(): string {
    const option = this.#agent instanceof HTMLSelectElement ? this.#agent.selectedOptions[0] : undefined;
    return option?.textContent ?? find("#agent-name").textContent ?? "";
  }

  showState(state: CallState): void {
    const isUnderWay = state.name === "microphone" || state.name === "connecting" || state.name === "live";
    const live = state.name === "live" ? state : undefined;
    if (state.name === "microphone") this.#clear();
    this.#main.dataset.state = state.name;
    this.#main.dataset.speaker = live?.speaker ?? "";
    this.#main.classList.toggle("muted", live?.isMuted ?? false);
    this.#main.classList.toggle("troubled", live ? live.isReconnecting || live.isMicrophoneLost : false);
    setText(this.#status, this.#words(state));
    this.#tick(live !== undefined);
    this.#showFailure(state.name === "failed" ? state : undefined);

    const hadFocus = document.activeElement?.closest(".dock") != null;
    this.#start.hidden = isUnderWay;
    this.#agent.disabled = isUnderWay;
    this.#hangUp.hidden = !isUnderWay;
    this.#mute.hidden = !live;
    this.#mute.setAttribute("aria-pressed", String(live?.isMuted ?? false));
    this.#unblock.hidden = !live?.isPlaybackBlocked;
    if (hadFocus) this.#keepFocus(isUnderWay ? this.#hangUp : this.#start);
    if (state.name === "ended" || state.name === "failed") this.#freeze();
  }

  /** Names the site's session of this call, as the log knows it. */
  showSession(session: string): void {
    this.#main.dataset.session = session;
  }

  /** Says how a call's transcript stands, if that is worth a word; only of the call that the page shows. */
  showStanding(session: string, standing: Standing): void {
    if (session !== this.#main.dataset.session) return;
    const sentence = typeof standing === "object" ? standing.refused : STANDINGS[standing];
    this.#standing.hidden = !sentence;
    setText(this.#standing, sentence);
  }

  /** Shows what is said: interim texts replace each other in their turn's place, the final one stays. */
  showSay(say: Say): void {
    const key = `${say.role} ${say.turn}`;
    let caption = this.#captions.get(key);
    if (!caption) {
      if (!say.text) return;
      caption = this.#addCaption(say);
      this.#captions.set(key, caption);
    }
    if (caption.isFinal && !say.isFinal) return;
    const { item, words, isFinal } = caption;
    const before = words.textContent ?? "";
    // A second final of a turn holds its next words.
    words.textContent = isFinal && before !== say.text ? `${before} ${say.text}`.trim() : say.text;
    if (!say.isFinal) return;
    caption.isFinal = true;
    // Nothing of this turn was heard: it was cut before its first word.
    if (!words.textContent) item.remove();
    finish(item);
  }

  /** The caller has cut in: marks what was cut off by that. */
  showInterruption(): void {
    const caption = cutCaption(this.#captions.values());
    if (caption) markCut(caption.item);
  }

  showTool(call: ToolCall, output?: string): void {
    let item = this.#tools.get(call.id);
    if (!item) {
      item = this.#addTool(call);
      this.#tools.set(call.id, item);
    }
    if (output === undefined) return;
    const state = isErrorOutput(output) ? "failed" : "done";
    this.#conclude(item, state, state);
    setText(item.querySelector(".result"), pretty(output));
  }

  setTheme(theme: "dark" | "light"): void {
    document.documentElement.dataset.theme = theme;
    this.#localStorage?.setItem(THEME_KEY, theme);
    const paper = getComputedStyle(document.body).backgroundColor;
    for (const meta of document.querySelectorAll<HTMLMetaElement>("meta[name=theme-color]"))
      meta.content = paper;
  }

  showList(title: string, items: string[]): void {
    const list = build("ul");
    list.append(...items.map((text) => build("li", "", text)));
    const item = build("li", "list-card");
    item.append(build("h2", "", title), list);
    this.#insert(item, Number.POSITIVE_INFINITY);
  }

  #words(state: CallState): string {
    switch (state.name) {
      case "idle":
        return "Ready when you are.";
      case "microphone":
        return "Asking for your microphone: please allow it.";
      case "connecting":
        return `Calling ${this.#agentName}…`;
      case "live":
        return this.#liveWords(state);
      case "ended":
        return this.#endWords(state.by);
      case "failed":
        return this.#liveSince === undefined ? "Not connected." : "The call has ended.";
    }
  }

  #liveWords(live: LiveState): string {
    if (live.isReconnecting) return "The connection is weak. Reconnecting…";
    if (live.isPlaybackBlocked) return "Your browser blocks the sound.";
    if (live.isMicrophoneLost) return "Your microphone cannot be heard.";
    if (live.isMuted) return "Live. You are muted.";
    return live.isAgentHere ? "Live. Just talk." : `Waiting for ${this.#agentName}…`;
  }

  #endWords(by: "caller" | "agent"): string {
    if (this.#liveSince === undefined) return "Cancelled. Ready when you are.";
    const length = clockTime(performance.now() - this.#liveSince);
    return by === "agent" ? `${this.#agentName} hung up after ${length}.` : `Call ended after ${length}.`;
  }

  #tick(isLive: boolean): void {
    if (isLive && this.#ticking === undefined) {
      const since = performance.now();
      this.#liveSince = since;
      const show = () => setText(this.#timer, clockTime(performance.now() - since));
      show();
      this.#ticking = setInterval(show, 1000);
    } else if (!isLive) {
      clearInterval(this.#ticking);
      this.#ticking = undefined;
    }
    this.#timer.hidden = !isLive;
  }

  #showFailure(failed: { code: FailureCode; sentence?: string } | undefined): void {
    const text: FailureText | undefined = failed && FAILURE_TEXTS[failed.code];
    this.#mustReload = text?.remedy === "reload";
    const again = this.#mustReload ? "Reload the page" : "Try again";
    setText(find("#start span"), text ? again : "Start talking");
    this.#failure.hidden = !text;
    setText(find("#failure h2"), text?.title ?? "");
    setText(find("#failure p"), failed?.sentence ?? text?.sentence ?? "");
  }

  /** A button that goes away takes the focus with it, and a keyboard would start again at the top. */
  #keepFocus(button: HTMLButtonElement): void {
    const focused = document.activeElement;
    if (!focused || focused === document.body || focused.closest("[hidden]")) button.focus();
  }

  #addCaption({ role, turn, at_ms }: Say): Caption {
    const item = build("li", "say");
    item.dataset.role = role;
    item.dataset.turn = turn;
    item.dataset.final = "false";
    // Screen readers announce what is added to a log; words that still change come to them when they are final.
    item.ariaHidden = "true";
    const words = build("p", "words");
    words.dataset.text = "";
    item.append(build("span", "speaker", role === "caller" ? "You" : this.#agentName), words);
    this.#insert(item, at_ms);
    return { role, at_ms, item, words, isFinal: false };
  }

  #addTool(call: ToolCall): HTMLLIElement {
    const item = build("li", "tool");
    item.dataset.tool = call.name;
    item.dataset.state = "running";
    const summary = build("summary");
    summary.append(build("code", "", call.name), " ", build("span", "outcome", "running…"));
    const details = build("details");
    details.append(
      summary,
      build("p", "", "Asked with"),
      build("pre", "", pretty(JSON.stringify(call.arguments))),
      build("p", "", "Answer"),
      build("pre", "result", "…"),
    );
    item.append(details);
    this.#insert(item, call.at_ms);
    return item;
  }

  #conclude(tool: HTMLLIElement, state: "done" | "failed", outcome: string): void {
    tool.dataset.state = state;
    setText(tool.querySelector(".outcome"), outcome);
  }

  /** Puts an item where it began: a transcript comes after the reply to it has begun, but belongs before it. */
  #insert(item: HTMLLIElement, at_ms: number): void {
    let next: Element | null = null;
    let previous = this.#list.lastElementChild;
    while (previous instanceof HTMLElement && Number(previous.dataset.at) > at_ms) {
      next = previous;
      previous = previous.previousElementSibling;
    }
    if (Number.isFinite(at_ms)) item.dataset.at = String(at_ms);
    this.#list.insertBefore(item, next);
    this.#main.classList.add("captioned");
    this.#log.tabIndex = 0; // arrow keys scroll it
  }

  /** The call is over: what was still changing stays as it is. */
  #freeze(): void {
    for (const caption of this.#captions.values()) {
      if (caption.isFinal) continue;
      if (caption.role === "agent") markCut(caption.item);
      caption.isFinal = true;
      finish(caption.item);
    }
    for (const item of this.#tools.values()) {
      if (item.dataset.state === "running") this.#conclude(item, "failed", "not answered");
    }
  }

  #clear(): void {
    this.#captions.clear();
    this.#tools.clear();
    this.#follows = true;
    this.#liveSince = undefined;
    this.#standing.hidden = true;
    delete this.#main.dataset.session;
    this.#list.replaceChildren();
    this.#main.classList.remove("captioned");
    this.#log.removeAttribute("tabindex");
  }
}

function markCut(item: HTMLLIElement): void {
  if (item.dataset.cut !== undefined) return;
  item.dataset.cut = "";
  item.append(build("span", "cut", "cut off"));
}

function finish(item: HTMLLIElement): void {
  item.dataset.final = "true";
  item.ariaHidden = null;
}

function find<T extends Element = HTMLElement>(selector: string): T {
  const element = document.querySelector<T>(selector);
  if (!element) throw new Error(`The page has no ${selector}.`);
  return element;
}

function build<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  className = "",
  text = "",
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

/** Leaves a text alone that is right already: a live region would announce it again. */
function setText(element: Element | null, text: string): void {
  if (element && element.textContent !== text) element.textContent = text;
}

function clockTime(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

function pretty(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json; // an output can be any string
  }
}
