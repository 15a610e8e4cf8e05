import type { CallState, LiveState, Notice } from "./call-state";
import { clockTime, transcriptName } from "./captions";
import { CaptionsView } from "./captions-view";
import { build, find, setText } from "./elements";
import type { Say, ToolCall } from "./events";
import type { ToolPage } from "./page-tools";
import type { Standing } from "./relay";
import { type Action, SITUATIONS, type SituationCode } from "./situations";
import { allowedStorage, remember } from "./storage";

/** What the visitor asks for. */
export interface TalkWishes {
  /** `here`: in the place of a call in another tab. */
  onStart(how: { here: boolean }): void;
  onHangUp(): void;
  onMute(isMuted: boolean): void;
  /** The notice's one button. */
  onNotice(notice: Notice): void;
}

/** What the one button of each action is called. */
const ACTIONS = {
  again: "Try again",
  reload: "Reload the page",
  login: "Log in",
  agents: "See all agents",
  here: "Talk here instead",
  unblock: "Turn on the sound",
  microphone: "Use my microphone again",
  device: "Use it",
  dismiss: "Close",
  none: "",
} as const satisfies Record<Action, string>;

const STANDINGS = {
  sent: "",
  kept: "The transcript is being kept on this device until the site takes it.",
  held: "The transcript is waiting for the site. Keep this page open.",
} as const satisfies Record<Exclude<Standing, object>, string>;

const DOING = {
  listening: "Listening",
  thinking: "Thinking…",
  speaking: "Speaking",
} as const satisfies Record<LiveState["doing"], string>;

const THEME_KEY = "theme";
const CAPTIONS_KEY = "voicedemo.captions";

/** The talk page's document: what the visitor sees of a call, and the buttons to it. */
export class TalkPage implements ToolPage {
  readonly main = find<HTMLElement>("#talk");
  readonly remoteAudioContainer = find("#remote-audio");

  readonly #status = find("#status");
  readonly #words = build("span", "words");
  /** Seen and read, but not announced: the agent's own voice tells a listener the same, and at once. */
  readonly #doing = build("span", "doing");
  readonly #timer = find("#timer");
  readonly #standing = find("#standing");
  readonly #failure = find("#failure > *");
  readonly #notice = find("#notice > *");
  readonly #noticeAction = find<HTMLButtonElement>("#notice-action");
  readonly #start = find<HTMLButtonElement>("#start");
  readonly #mute = find<HTMLButtonElement>("#mute");
  readonly #hangUp = find<HTMLButtonElement>("#hang-up");
  readonly #captionsSwitch = find<HTMLButtonElement>("#captions-switch");
  readonly #after = find("#after");
  readonly #afterWords = find("#after-words");

  readonly #agentName = this.main.dataset.agentName ?? "";
  readonly #title = document.title;
  readonly #captions = new CaptionsView(find("#captions"), find("#captions ol"), this.#agentName);
  readonly #localStorage = allowedStorage("localStorage");
  #action: Action = "again";
  #shownNotice: Notice | undefined;
  #hasCaptions = true;
  #liveSince: number | undefined;
  #reconnectingSince: number | null = null;
  #ticking: ReturnType<typeof setInterval> | undefined;
  #downloadUrl = "";

  constructor(wishes: TalkWishes) {
    this.#doing.ariaLive = "off";
    setText(this.#words, this.#status.textContent ?? "");
    this.#status.replaceChildren(this.#words, " ", this.#doing);
    this.#showCaptions(this.#localStorage?.getItem(CAPTIONS_KEY) !== "off");

    this.#start.addEventListener("click", () => this.#act(wishes));
    // The second click of a double click on the start button lands on what has taken its place.
    this.#hangUp.addEventListener("click", (click) => click.detail > 1 || wishes.onHangUp());
    this.#mute.addEventListener("click", () => wishes.onMute(!isPressed(this.#mute)));
    this.#noticeAction.addEventListener(
      "click",
      () => this.#shownNotice && wishes.onNotice(this.#shownNotice),
    );
    this.#captionsSwitch.addEventListener("click", () => this.#switchCaptions());
    find("#copy").addEventListener("click", () => void this.#copy());
    find("#download").addEventListener("click", () => this.#download());
  }

  showState(state: CallState): void {
    const isUnderWay = state.name === "microphone" || state.name === "connecting" || state.name === "live";
    const live = state.name === "live" ? state : undefined;
    const failed = state.name === "failed" ? state : undefined;
    const isOver = state.name === "ended" || state.name === "failed";
    const focused = document.activeElement;
    // Once for each call: a hint may come while this state lasts.
    if (state.name === "microphone" && this.main.dataset.state !== "microphone") this.#clear();
    if (isOver) this.#captions.freeze();

    const notice = noticeOf(state);
    const { dataset, classList } = this.main;
    dataset.state = state.name;
    dataset.situation = failed?.code ?? notice?.code ?? "";
    dataset.doing = live?.doing ?? "";
    dataset.speaker = live?.speaker ?? "";
    classList.toggle("muted", live?.isMuted ?? false);
    classList.toggle("troubled", live?.notices.some(isTrouble) ?? false);
    document.title = live ? `● ${this.#title}` : this.#title;

    this.#tick(live);
    setText(this.#words, this.#wordsOf(state));
    setText(this.#doing, live ? doingOf(live) : "");
    this.#showNotice(notice);
    this.#showFailure(failed);
    this.#showButtons(state);
    this.#arrange();

    // A control that goes away takes the focus with it, and a keyboard would start again at the top of the page.
    const isLost = focused && focused !== document.body && focused.getClientRects().length === 0;
    if (isLost) (live ? this.#mute : isUnderWay ? this.#hangUp : this.#start).focus();
  }

  /** Names the site's session of this call, as the log knows it. */
  showSession(session: string): void {
    this.main.dataset.session = session;
  }

  /** Says how a call's transcript stands, if that is worth a word; only of the call that the page shows. */
  showStanding(session: string, standing: Standing): void {
    if (session !== this.main.dataset.session) return;
    setText(this.#standing, typeof standing === "object" ? standing.refused : STANDINGS[standing]);
  }

  showSay(say: Say): void {
    this.#captions.showSay(say);
    this.#arrange();
  }

  showInterruption(): void {
    this.#captions.showInterruption();
  }

  showTool(call: ToolCall, output?: string, took_ms?: number): void {
    this.#captions.showTool(call, output, took_ms);
    this.#arrange();
  }

  showList(title: string, items: string[]): void {
    this.#captions.showList(title, items);
    this.#arrange();
  }

  setTheme(theme: "dark" | "light"): void {
    document.documentElement.dataset.theme = theme;
    remember(this.#localStorage, THEME_KEY, theme);
    const paper = getComputedStyle(document.body).backgroundColor;
    for (const meta of document.querySelectorAll<HTMLMetaElement>("meta[name=theme-color]"))
      meta.content = paper;
  }

  /** `captionSize`: a name that captions.css has a size for. */
  showDisplay({ captionSize }: { captionSize: string }): void {
    this.main.dataset.captionSize = captionSize;
  }

  /** The button before and after a call: what it does stands on it. */
  #act(wishes: TalkWishes): void {
    const { loginUrl = "", agentsUrl = "" } = this.main.dataset;
    if (this.#action === "reload") location.reload();
    else if (this.#action === "login") location.assign(loginUrl);
    else if (this.#action === "agents") location.assign(agentsUrl);
    else wishes.onStart({ here: this.#action === "here" });
  }

  #wordsOf(state: CallState): string {
    switch (state.name) {
      case "idle":
        return "Ready when you are.";
      case "microphone":
        return "Asking for your microphone: please allow it.";
      case "connecting":
        return `Calling ${this.#agentName}…`;
      case "live":
        if (state.reconnectingSince !== null) return "Reconnecting…";
        if (!state.isAgentHere) return `Waiting for ${this.#agentName}…`;
        return state.isMuted ? "You are muted" : "Live";
      case "ended":
        return this.#endWords(state.by);
      case "failed":
        return this.#liveSince === undefined ? "Not connected." : "The call has ended.";
    }
  }

  #endWords(by: "caller" | "agent"): string {
    if (this.#liveSince === undefined) return "Cancelled. Ready when you are.";
    const length = clockTime(performance.now() - this.#liveSince);
    return by === "agent" ? `${this.#agentName} hung up after ${length}.` : `Call ended after ${length}.`;
  }

  #tick(live: LiveState | undefined): void {
    this.#reconnectingSince = live?.reconnectingSince ?? null;
    if (live && this.#ticking === undefined) {
      this.#liveSince = performance.now();
      this.#ticking = setInterval(() => this.#showTimes(), 1000);
    } else if (!live) {
      clearInterval(this.#ticking);
      this.#ticking = undefined;
    }
    this.#timer.hidden = !live;
    this.#showTimes();
  }

  #showTimes(): void {
    const now = performance.now();
    if (this.#liveSince !== undefined) setText(this.#timer, clockTime(now - this.#liveSince));
    const since = this.#reconnectingSince;
    setText(find("#notice-time"), since === null ? "" : `for ${Math.floor((now - since) / 1000)} s`);
  }

  #showNotice(notice: Notice | undefined): void {
    this.#shownNotice = notice;
    this.#notice.hidden = !notice;
    if (!notice) return;
    const { title, sentence, action } = SITUATIONS[notice.code];
    setText(find("#notice strong"), title);
    setText(find("#notice-detail"), notice.detail ?? "");
    setText(find("#notice-sentence"), sentence);
    setText(this.#noticeAction, ACTIONS[action]);
    this.#noticeAction.hidden = action === "none";
    this.#noticeAction.classList.toggle("quiet", action === "dismiss");
  }

  #showFailure(failed: { code: SituationCode; sentence?: string } | undefined): void {
    this.#failure.hidden = !failed;
    if (!failed) return;
    const { title, sentence, action } = SITUATIONS[failed.code];
    this.#action = action;
    setText(find("#failure h2"), title);
    setText(find("#failure p"), failed.sentence ?? sentence);
    setText(find("#start span"), ACTIONS[action]);
    find("#start svg").toggleAttribute("hidden", action !== "again" && action !== "here"); // its microphone
  }

  #showButtons(state: CallState): void {
    const isOver = state.name === "ended" || state.name === "failed";
    const isLive = state.name === "live";
    this.#start.hidden = !isOver && state.name !== "idle";
    this.#hangUp.hidden = !this.#start.hidden;
    this.#mute.hidden = !isLive;
    this.#mute.ariaPressed = String(isLive && state.isMuted);
    if (state.name === "ended") {
      this.#action = "again";
      setText(find("#start span"), "Talk again");
    }
    // The click that began the first call has agreed to them.
    const consent = document.querySelector<HTMLElement>("#consent");
    if (consent && !isOver && state.name !== "idle") consent.hidden = true;
  }

  /** Makes room for what there is to read; after a call that is all of it. */
  #arrange(): void {
    const { state } = this.main.dataset;
    const isOver = state === "ended" || state === "failed";
    const hasWords = !this.#captions.isEmpty;
    const areHidden = !this.#hasCaptions && !isOver;
    this.#captionsSwitch.hidden = state !== "live";
    this.#after.hidden = !(isOver && hasWords);
    this.main.classList.toggle("uncaptioned", areHidden);
    this.main.classList.toggle("captioned", hasWords && (!areHidden || this.#captions.hasList));
  }

  #switchCaptions(): void {
    this.#showCaptions(!this.#hasCaptions);
    remember(this.#localStorage, CAPTIONS_KEY, this.#hasCaptions ? "" : "off");
  }

  #showCaptions(areShown: boolean): void {
    this.#hasCaptions = areShown;
    this.#captionsSwitch.ariaPressed = String(areShown);
    this.#arrange();
  }

  async #copy(): Promise<void> {
    try {
      await navigator.clipboard.writeText(this.#captions.text());
      setText(this.#afterWords, "Copied.");
    } catch {
      setText(this.#afterWords, "Your browser does not allow copying here. Download the transcript instead.");
    }
  }

  #download(): void {
    URL.revokeObjectURL(this.#downloadUrl);
    const file = new Blob([this.#captions.text()], { type: "text/plain;charset=utf-8" });
    this.#downloadUrl = URL.createObjectURL(file);
    const link = build("a");
    link.href = this.#downloadUrl;
    link.download = transcriptName(this.#agentName, this.#captions.began);
    link.click();
  }

  #clear(): void {
    this.#captions.clear();
    this.#liveSince = undefined;
    setText(this.#standing, "");
    setText(this.#afterWords, "");
    delete this.main.dataset.session;
  }
}

function noticeOf(state: CallState): Notice | undefined {
  if (state.name === "microphone" && state.isUnanswered) return { code: "microphone_unanswered" };
  if (state.name !== "live") return undefined;
  // A microphone that was silent before it was muted is no trouble now.
  return state.notices.find(({ code }) => !(state.isMuted && code === "microphone_silent"));
}

/** Whether it keeps the two from hearing each other, rather than being there to be decided. */
function isTrouble({ code }: Notice): boolean {
  const { action } = SITUATIONS[code];
  return action !== "device" && action !== "dismiss";
}

/** Whether it keeps the agent from hearing the caller. */
function silences(notice: Notice): boolean {
  const { group } = SITUATIONS[notice.code];
  return isTrouble(notice) && (group === "microphone" || group === "media");
}

function doingOf(live: LiveState): string {
  // Nothing arrives while the line is away, and nobody is told to be listened to who cannot be heard.
  if (live.reconnectingSince !== null || !live.isAgentHere) return "";
  const isHeard = !live.isMuted && !live.notices.some(silences);
  return isHeard || live.doing !== "listening" ? DOING[live.doing] : "";
}

function isPressed(button: HTMLButtonElement): boolean {
  return button.ariaPressed === "true";
}
