import {
  briefly,
  cutCaption,
  type Line,
  outcome,
  placeOf,
  pretty,
  type SayLine,
  type ToolLine,
  transcriptText,
  wordsAfter,
} from "./captions";
import { build, setText } from "./elements";
import { isErrorOutput, type Say, type ToolCall } from "./events";

/** This close to the newest caption counts as having it in sight. */
const FOLLOW_PX = 120;

interface Shown<T extends Line> {
  line: T;
  item: HTMLLIElement;
}

/** The call as it can be read: both sides' words, the agent's tools, and the lists that it shows. */
export class CaptionsView {
  readonly #log: HTMLElement;
  readonly #list: HTMLOListElement;
  readonly #agentName: string;
  /** In the order of the conversation, as in the document. */
  readonly #shown: Shown<Line>[] = [];
  readonly #says = new Map<string, Shown<SayLine> & { words: HTMLElement }>();
  readonly #tools = new Map<string, Shown<ToolLine>>();
  /** The newest caption is in sight, and is kept there; a visitor who scrolls up wants to read. */
  #follows = true;
  #began = new Date();

  /** `log` is the live region, with an empty list in it. */
  constructor(log: HTMLElement, list: HTMLOListElement, agentName: string) {
    this.#log = log;
    this.#list = list;
    this.#agentName = agentName;
    let furthest = 0; // how far it could be scrolled at the last look
    log.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = log;
      // What has moved since then may be the captions, not the visitor: `resized` comes to that.
      if (scrollHeight - clientHeight === furthest) this.#follows = furthest - scrollTop < FOLLOW_PX;
    });
    // The captions grow, or the buttons beside them take their room.
    const resized = new ResizeObserver(() => {
      if (this.#follows) log.scrollTop = log.scrollHeight;
      furthest = log.scrollHeight - log.clientHeight;
    });
    resized.observe(list);
    resized.observe(log);
  }

  get isEmpty(): boolean {
    return this.#shown.length === 0;
  }

  /** Lists are what the agent was asked to show: they stay when captions are hidden. */
  get hasList(): boolean {
    return this.#shown.some(({ line }) => line.kind === "list");
  }

  /** When the call began that is shown. */
  get began(): Date {
    return this.#began;
  }

  /** The whole conversation, for the visitor to keep. */
  text(): string {
    const lines = this.#shown.map(({ line }) => line);
    return transcriptText(lines, this.#agentName, this.#began);
  }

  /** Shows what is said: interim texts replace each other in their turn's place, the final one stays. */
  showSay(say: Say): void {
    const key = `${say.role} ${say.turn}`;
    let shown = this.#says.get(key);
    if (!shown) {
      if (!say.text) return;
      shown = this.#addSay(say);
      this.#says.set(key, shown);
    }
    const { line, item, words } = shown;
    if (line.isFinal && !say.isFinal) return;
    line.text = wordsAfter(line, say.text);
    setText(words, line.text.trimEnd()); // a mark of what is cut off or unfinished comes right after it
    if (!say.isFinal) return;
    // Nothing of this turn was heard: it was cut before its first word.
    if (line.text) finish(shown);
    else this.#remove(key, item);
  }

  /** The caller has cut in: marks what was cut off by that. */
  showInterruption(): void {
    const says = [...this.#says.values()];
    const cut = cutCaption(says.map(({ line }) => line));
    const shown = says.find(({ line }) => line === cut);
    if (shown) markCut(shown);
  }

  /** Shows a tool call, and its answer when that has come. `took_ms`: how long the answer took. */
  showTool(call: ToolCall, output?: string, took_ms?: number): void {
    let shown = this.#tools.get(call.id);
    if (!shown) {
      shown = this.#addTool(call);
      this.#tools.set(call.id, shown);
    }
    if (output === undefined) return;
    const { line, item } = shown;
    line.output = output;
    if (took_ms !== undefined) line.took_ms = took_ms;
    this.#conclude(item, isErrorOutput(output) ? "failed" : "done", outcome(line));
    for (const result of item.querySelectorAll(".result")) setText(result, pretty(output));
  }

  /** Where the conversation stands now. */
  showList(title: string, items: readonly string[]): void {
    const list = build("ul", "", ...items.map((text) => build("li", "", text)));
    const item = build("li", "list-card", build("h2", "", title), list);
    item.ariaLive = "off";
    const at_ms = this.#shown.at(-1)?.line.at_ms ?? 0;
    this.#insert({ line: { kind: "list", at_ms, title, items }, item });
  }

  /** The call is over: what was still changing stays as it is. */
  freeze(): void {
    for (const shown of this.#says.values()) {
      if (shown.line.isFinal) continue;
      if (shown.line.role === "agent") markCut(shown);
      finish(shown);
    }
    for (const { line, item } of this.#tools.values()) {
      if (line.output === undefined) this.#conclude(item, "failed", outcome(line));
    }
  }

  /** A new call begins. */
  clear(): void {
    this.#shown.length = 0;
    this.#says.clear();
    this.#tools.clear();
    this.#follows = true;
    this.#began = new Date();
    this.#list.replaceChildren();
    this.#log.removeAttribute("tabindex");
  }

  #addSay({ role, turn, at_ms }: Say): Shown<SayLine> & { words: HTMLElement } {
    const words = build("p", "words");
    words.dataset.text = "";
    const item = build(
      "li",
      "say",
      build("p", "speaker", role === "caller" ? "You" : this.#agentName),
      words,
    );
    item.dataset.role = role;
    item.dataset.turn = turn;
    item.dataset.final = "false";
    // Screen readers announce what is added to a log; words that still change come to them when they are final.
    item.ariaHidden = "true";
    const line: SayLine = { kind: "say", role, at_ms, text: "", isFinal: false, isCut: false };
    this.#insert({ line, item });
    return { line, item, words };
  }

  #addTool(call: ToolCall): Shown<ToolLine> {
    const line: ToolLine = { kind: "tool", at_ms: call.at_ms, name: call.name, arguments: call.arguments };
    const asked = briefly(call.arguments);
    const summary = build("summary", "", build("code", "", call.name), " ");
    if (asked) summary.append(build("span", "asked", asked), " ");
    summary.append(build("span", "outcome", outcome(line, false)));
    const facts = build("dl");
    for (const [name, value] of Object.entries(call.arguments)) {
      facts.append(
        build("dt", "", name),
        build("dd", "", typeof value === "string" ? value : JSON.stringify(value)),
      );
    }
    facts.append(build("dt", "", "Answer"), build("dd", "result", "…"));
    const item = build("li", "tool", build("details", "", summary, facts));
    item.dataset.tool = call.name;
    item.dataset.state = "running";
    item.ariaLive = "off"; // not something that was said
    this.#insert({ line, item });
    return { line, item };
  }

  #conclude(item: HTMLLIElement, state: "done" | "failed", words: string): void {
    item.dataset.state = state;
    const sign = item.querySelector(".outcome");
    if (sign) setText(sign, words);
  }

  #insert(shown: Shown<Line>): void {
    const place = placeOf(
      this.#shown.map(({ line }) => line),
      shown.line.at_ms,
    );
    this.#list.insertBefore(shown.item, this.#shown[place]?.item ?? null);
    this.#shown.splice(place, 0, shown);
    this.#log.tabIndex = 0; // arrow keys scroll it
  }

  #remove(key: string, item: HTMLLIElement): void {
    this.#says.delete(key);
    this.#shown.splice(
      this.#shown.findIndex((shown) => shown.item === item),
      1,
    );
    item.remove();
  }
}

function markCut({ line, item }: Shown<SayLine>): void {
  if (line.isCut) return;
  line.isCut = true;
  item.dataset.cut = "";
  item.append(build("p", "cut", "cut off"));
}

function finish({ line, item }: Shown<SayLine>): void {
  line.isFinal = true;
  item.dataset.final = "true";
  item.ariaHidden = null;
}
