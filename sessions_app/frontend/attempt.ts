import type { LiveState, VoiceSession } from "./call-state";
import type { Clock } from "./clock";
import { type Data, type Entry, Timeline } from "./events";
import { NOT_LIVE_YET } from "./live";
import type { Credential } from "./mint";
import type { SleepWatch } from "./sleep-watch";
import type { ToolCalls } from "./tool-calls";

/** A connection that ends so soon after the page was asleep has died of it. */
const AWAKE_MS = 60_000;

/** One try to talk, from the click to its end. Everything that must not outlive it hangs on it. */
export class Attempt {
  isOver = false;
  hasAgentEnded = false;
  /** The agent has a track, or has said something. */
  hasVoice = false;
  /** When the caller fell silent last: the agent's next sound is the reply to that. A greeting answers nobody. */
  replyDueAt: number | undefined;
  live: LiveState = NOT_LIVE_YET;
  readonly timeline = new Timeline();
  readonly cleanups: (() => void)[] = [];
  /** The last entry of a call that ended before the site had answered. */
  lastEntry?: Entry;
  credential: Credential | undefined;
  session: VoiceSession | undefined;
  tools: ToolCalls | undefined;
  sleepWatch: SleepWatch | undefined;
  /** Ends the waiting for an agent that thinks. */
  cancelThought = () => {};
  readonly #clock: Clock;
  /** The clock's reading at the call's start: when the site was asked for it. */
  #zero = 0;
  #wokeAt: number | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  begin(): void {
    this.#zero = this.#clock.now();
  }

  /** Milliseconds since the call's start, sleep included. */
  now(): number {
    return this.at(this.#clock.now());
  }

  /** The same of an earlier reading of the clock. */
  at(reading: number): number {
    return reading - this.#zero;
  }

  /** The page runs again; the clock had stood still for so long while the call went on. */
  wake(stopped_ms: number): void {
    this.#zero -= stopped_ms;
    this.#wokeAt = this.#clock.now();
  }

  get isJustAwake(): boolean {
    return this.#wokeAt !== undefined && this.#clock.now() - this.#wokeAt < AWAKE_MS;
  }

  entry(type: string, data: Data = {}, at = this.now()): Entry {
    return { at_ms: Math.max(0, Math.round(at)), type, data };
  }

  /** The first sound of a reply, which began `ago_ms` ago. */
  replyEntry({ ago_ms }: Data): Entry {
    const at = this.now() - (typeof ago_ms === "number" ? ago_ms : 0);
    const data: Data = {};
    if (this.replyDueAt !== undefined) data.after_ms = Math.max(0, Math.round(at - this.replyDueAt));
    const turn = this.timeline.unfinished.findLast(({ type }) => type === "response_text");
    if (turn?.data.turn_id !== undefined) data.turn_id = turn.data.turn_id;
    return this.entry("reply_audible", data, at);
  }

  /** Runs `task` after `ms` unless the attempt is over by then; the returned function cancels it. */
  after(ms: number, task: () => void): () => void {
    const cancel = this.#clock.after(ms, task);
    this.cleanups.push(cancel);
    return cancel;
  }
}
