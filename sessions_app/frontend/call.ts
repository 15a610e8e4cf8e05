import type { VatelConnectError, WebRTCSession } from "@vatel/sdk";
import { CallFailure, type FailureCode } from "./call-failures";
import type { Clock } from "./clock";
import {
  type Data,
  type Entry,
  type Interim,
  type Say,
  Timeline,
  type ToolCall,
  toolCallOf,
  type WireMessage,
} from "./events";
import type { Credential } from "./mint";
import { type PageTools, ToolCalls } from "./tool-calls";

const AGENT_ABSENT_MS = 20_000;
/** An agent that has said that the session is over leaves at once; this is for one that stays. */
const FAREWELL_MS = 5_000;
const TICK_MS = 10_000;
/** A page whose timers are later than this has not been running: the lid was closed. */
const ASLEEP_MS = 30_000;

export type CallState =
  | { name: "idle" | "microphone" | "connecting" }
  | ({ name: "live" } & LiveState)
  | { name: "ended"; by: "caller" | "agent" }
  | { name: "failed"; code: FailureCode; sentence?: string };

export interface LiveState {
  /** Something has been heard of the agent. */
  isAgentHere: boolean;
  speaker: "caller" | "agent" | null;
  isMuted: boolean;
  isReconnecting: boolean;
  isPlaybackBlocked: boolean;
  isMicrophoneLost: boolean;
}

/** What the call tells: its state, what the page shows, and what belongs into the log of which session. */
export type CallEvent =
  | { kind: "state"; state: CallState }
  | { kind: "said"; say: Say }
  | { kind: "interrupted" }
  | { kind: "tool"; call: ToolCall; output?: string }
  | { kind: "opened"; credential: Credential }
  | { kind: "entry"; session: string; entry: Entry }
  | { kind: "interim"; session: string; interim: Interim }
  | { kind: "closed"; session: string };

export type VoiceSession = Pick<
  WebRTCSession,
  | "on"
  | "connect"
  | "start"
  | "setMicrophoneTrack"
  | "setMicrophoneEnabled"
  | "sendToolCallOutput"
  | "disconnect"
>;

export interface CallOptions {
  clock: Clock;
  openMicrophone: () => Promise<MediaStreamTrack>;
  mint: (agentId?: string) => Promise<Credential>;
  /** Loads the SDK; what it gives makes a new session for each call. */
  loadSdk: () => Promise<() => VoiceSession>;
  tools: PageTools;
  emit: (event: CallEvent) => void;
}

/** One try to talk, from the click to its end. Everything that must not outlive it hangs on it. */
class Attempt {
  isOver = false;
  hasAgentEnded = false;
  /** The clock's reading at the call's start: when the site was asked for it. */
  zero = 0;
  readonly timeline = new Timeline();
  /** When the caller fell silent, or the line opened: the agent's next sound is the reply to that. */
  replyDueAt: number | undefined;
  readonly cleanups: (() => void)[] = [];
  live: LiveState = {
    isAgentHere: false,
    speaker: null,
    isMuted: false,
    isReconnecting: false,
    isPlaybackBlocked: false,
    isMicrophoneLost: false,
  };
  /** The last entry of a call that ended before the site had answered. */
  lastEntry?: Entry;
  credential?: Credential;
  session?: VoiceSession;
  tools?: ToolCalls;
}

/** What each of the session's messages changes in what is shown of a live call. */
const LIVE_CHANGES: Readonly<Record<string, Partial<LiveState>>> = {
  speech_started: { speaker: "caller" },
  speech_stopped: { speaker: null },
  interruption: { speaker: "caller" },
  reconnecting: { isReconnecting: true },
  reconnected: { isReconnecting: false },
  playback_blocked: { isPlaybackBlocked: true },
  playback_allowed: { isPlaybackBlocked: false },
  microphone_lost: { isMicrophoneLost: true },
  microphone_restored: { isMicrophoneLost: false },
};

/** These say nothing of the agent: the session makes them itself. */
const LOCAL_TYPES: ReadonlySet<string> = new Set([
  "reconnecting",
  "reconnected",
  "playback_blocked",
  "playback_allowed",
  "microphone_lost",
  "microphone_restored",
  "message_dropped",
  "disconnected",
]);

/**
 * The state machine of a call: idle → microphone → connecting → live → ended | failed, and from there again.
 * After every wait it asks whether its attempt is still the one that counts: a visitor may hang up at any moment,
 * and what arrives after that (a microphone, a credential, a connection) is closed at once.
 */
export class Call {
  readonly #options: CallOptions;
  #state: CallState = { name: "idle" };
  #attempt: Attempt | null = null;

  constructor(options: CallOptions) {
    this.#options = options;
  }

  get state(): CallState {
    return this.#state;
  }

  /** Starts a call; does nothing while one is under way. Call it inside a click. Failures become the state. */
  async start(agentId?: string): Promise<void> {
    if (this.#attempt) return;
    const attempt = new Attempt();
    this.#attempt = attempt;
    try {
      await this.#run(attempt, agentId);
    } catch (error) {
      this.#fail(attempt, error);
    }
  }

  /** Ends the call, or gives up starting it. */
  hangUp(by: "caller" | "page_closed" = "caller"): void {
    const attempt = this.#attempt;
    if (!attempt) return;
    const entry = this.#entry(attempt, "hang_up", { by });
    this.#end(attempt, { name: "ended", by: "caller" }, by === "caller" ? "hang_up" : by, entry);
  }

  async setMuted(isMuted: boolean): Promise<void> {
    const attempt = this.#attempt;
    if (!attempt?.session || this.#state.name !== "live" || this.#state.isMuted === isMuted) return;
    this.#change(attempt, { isMuted });
    try {
      await attempt.session.setMicrophoneEnabled(!isMuted);
      if (attempt.isOver) return;
      this.#record(attempt, this.#entry(attempt, "microphone_muted", { muted: isMuted }));
    } catch (error) {
      if (attempt.isOver) return;
      console.warn("The microphone could not be switched:", error);
      this.#change(attempt, { isMuted: !isMuted, isMicrophoneLost: true });
    }
  }

  /** Lets the agent be heard where the browser wants a click for it. */
  async unblockPlayback(): Promise<void> {
    await this.#attempt?.session?.start().catch(() => undefined); // still refused: the button stays
  }

  /** The output of a tool that the server ran. */
  answerTool(toolCallId: string, output: string): void {
    this.#attempt?.tools?.answer(toolCallId, output);
  }

  async #run(attempt: Attempt, agentId: string | undefined): Promise<void> {
    const { openMicrophone, loadSdk } = this.#options;
    this.#set({ name: "microphone" });
    const sdk = loadSdk();
    sdk.catch(() => undefined); // awaited below; without a microphone it does not matter
    const track = await openMicrophone();
    if (attempt.isOver) return track.stop();
    attempt.cleanups.push(() => track.stop());

    this.#set({ name: "connecting" });
    const [credential, createSession] = await Promise.all([this.#mint(attempt, agentId), sdk]);
    if (attempt.isOver) return;
    const session = createSession();
    attempt.session = session;
    attempt.tools = this.#toolCalls(attempt, session);
    attempt.cleanups.push(session.on("*", (message) => this.#receive(attempt, message as WireMessage)));

    await session.connect({ token: credential.webrtc_token, url: credential.url, room: credential.room });
    if (attempt.isOver) return session.disconnect();
    // A refusal to play comes as `playback_blocked` too; the call goes on without sound until the next click.
    void session.start().catch(() => undefined);
    await session.setMicrophoneTrack(track);
    if (attempt.isOver) return session.disconnect();
    this.#becomeLive(attempt);
  }

  async #mint(attempt: Attempt, agentId: string | undefined): Promise<Credential> {
    attempt.zero = this.#options.clock.now();
    const credential = await this.#options.mint(agentId);
    attempt.credential = credential;
    this.#options.emit({ kind: "opened", credential });
    // The site has opened a call that nobody wants any more: tell it, or it counts as running.
    if (attempt.isOver) this.#close(attempt);
    return credential;
  }

  #toolCalls(attempt: Attempt, session: VoiceSession): ToolCalls {
    const calls = new ToolCalls(
      this.#options.clock,
      (toolCallId, output) => session.sendToolCallOutput(toolCallId, output),
      (call, output) => {
        this.#record(attempt, this.#entry(attempt, "tool_call_output", { toolCallId: call.id, output }));
        this.#options.emit({ kind: "tool", call, output });
      },
    );
    attempt.cleanups.push(() => calls.close());
    return calls;
  }

  #becomeLive(attempt: Attempt): void {
    this.#set({ name: "live", ...attempt.live });
    attempt.replyDueAt ??= this.#now(attempt);
    this.#record(attempt, this.#entry(attempt, "connected", {}));
    this.#watchSleep(attempt);
    this.#after(attempt, AGENT_ABSENT_MS, () => {
      if (!attempt.live.isAgentHere) this.#fail(attempt, new CallFailure("agent_absent"));
    });
  }

  #receive(attempt: Attempt, message: WireMessage): void {
    if (attempt.isOver) return;
    const { emit } = this.#options;
    const placed = attempt.timeline.place(message, this.#now(attempt));
    const changes = { ...LIVE_CHANGES[message.type] };
    if (!LOCAL_TYPES.has(message.type)) changes.isAgentHere = true;
    if (placed.say?.role === "agent") changes.speaker = placed.say.isFinal ? null : "agent";
    this.#change(attempt, changes);
    if (message.type === "speech_stopped") attempt.replyDueAt = this.#now(attempt);

    if (message.type === "reply_audible") this.#recordReply(attempt, message.data);
    else if (message.type === "tool_call") this.#handleToolCall(attempt, message, placed.entry);
    else if (placed.entry) this.#record(attempt, placed.entry);
    else if (attempt.credential) {
      emit({ kind: "interim", session: attempt.credential.session, interim: placed.interim });
    }
    if (placed.say) emit({ kind: "said", say: placed.say });

    if (message.type === "interruption") emit({ kind: "interrupted" });
    if (message.type === "session_ended") {
      attempt.hasAgentEnded = true;
      this.#after(attempt, FAREWELL_MS, () => this.#endByAgent(attempt));
    }
    if (message.type === "disconnected") {
      if (attempt.hasAgentEnded || message.data.agent_left) this.#endByAgent(attempt);
      else this.#fail(attempt, new CallFailure("media_lost"));
    }
  }

  #handleToolCall(attempt: Attempt, message: WireMessage, entry: Entry | undefined): void {
    const call = entry && toolCallOf(message, entry.at_ms);
    if (!call || !attempt.tools?.open(call)) return;
    const { tools, emit } = this.#options;
    const run = Object.hasOwn(tools, call.name) ? tools[call.name] : undefined;
    this.#record(attempt, run ? { ...entry, runs_on: "page" } : entry);
    emit({ kind: "tool", call });
    if (!run) return; // the server runs it when the entry arrives; see `answerTool`
    let output: unknown;
    try {
      output = run(call.arguments);
    } catch (error) {
      console.error(`The tool ${call.name} failed:`, error);
      output = { error: "The page could not do that." };
    }
    attempt.tools.answer(call.id, JSON.stringify(output));
  }

  /** Of a sound that began `ago_ms` ago. */
  #recordReply(attempt: Attempt, { ago_ms }: Data): void {
    const now = this.#now(attempt);
    const at_ms = Math.round(now - (typeof ago_ms === "number" ? ago_ms : 0));
    const data: Data = {};
    if (attempt.replyDueAt !== undefined) {
      data.after_ms = Math.max(0, Math.round(at_ms - attempt.replyDueAt));
    }
    const turn = attempt.timeline.unfinished.findLast(({ type }) => type === "response_text");
    if (turn?.data.turn_id !== undefined) data.turn_id = turn.data.turn_id;
    this.#record(attempt, { at_ms: Math.max(0, at_ms), type: "reply_audible", data });
  }

  #watchSleep(attempt: Attempt): void {
    const { clock } = this.#options;
    let cancel = () => {};
    const tick = () => {
      const [began, at] = [clock.date(), this.#entry(attempt, "page_asleep", {})];
      cancel = clock.after(TICK_MS, () => {
        const for_ms = clock.date() - began - TICK_MS;
        if (for_ms > ASLEEP_MS) this.#record(attempt, { ...at, data: { for_ms } });
        tick();
      });
    };
    tick();
    attempt.cleanups.push(() => cancel());
  }

  #fail(attempt: Attempt, error: unknown): void {
    if (attempt.isOver) return;
    const code = codeOf(error);
    if (code === "page_error") console.error("The call failed:", error);
    const state: CallState = { name: "failed", code };
    if (error instanceof CallFailure && error.sentence) state.sentence = error.sentence;
    this.#end(attempt, state, "call_failed", this.#entry(attempt, "call_failed", { code }));
  }

  #endByAgent(attempt: Attempt): void {
    this.#end(attempt, { name: "ended", by: "agent" }, "session_ended");
  }

  #end(attempt: Attempt, state: CallState, cutBy: string, lastEntry?: Entry): void {
    if (attempt.isOver) return;
    attempt.isOver = true;
    this.#attempt = null;
    // Nobody will tell the end of these sentences any more: what was heard of them is all that the page has.
    for (const { at_ms, type, data } of attempt.timeline.unfinished) {
      this.#record(attempt, { at_ms, type, data: { ...data, is_final: true, cut_by: cutBy } });
    }
    if (lastEntry) attempt.lastEntry = lastEntry;
    if (attempt.credential) this.#close(attempt);
    for (const cleanup of attempt.cleanups) cleanup();
    attempt.session
      ?.disconnect()
      .catch((error) => console.warn("The media room did not close cleanly:", error));
    this.#set(state);
  }

  /** Writes the last entry and closes the log. */
  #close(attempt: Attempt): void {
    if (attempt.lastEntry) this.#record(attempt, attempt.lastEntry);
    if (attempt.credential) this.#options.emit({ kind: "closed", session: attempt.credential.session });
  }

  #record(attempt: Attempt, entry: Entry): void {
    if (attempt.credential) {
      this.#options.emit({ kind: "entry", session: attempt.credential.session, entry });
    }
  }

  #entry(attempt: Attempt, type: string, data: Entry["data"]): Entry {
    return { at_ms: Math.round(this.#now(attempt)), type, data };
  }

  #now(attempt: Attempt): number {
    return this.#options.clock.now() - attempt.zero;
  }

  #after(attempt: Attempt, ms: number, task: () => void): void {
    attempt.cleanups.push(this.#options.clock.after(ms, task));
  }

  #change(attempt: Attempt, changes: Partial<LiveState>): void {
    const before = attempt.live;
    attempt.live = { ...before, ...changes };
    const keys = Object.keys(changes) as (keyof LiveState)[];
    if (this.#state.name === "live" && keys.some((key) => changes[key] !== before[key])) {
      this.#set({ name: "live", ...attempt.live });
    }
  }

  #set(state: CallState): void {
    this.#state = state;
    this.#options.emit({ kind: "state", state });
  }
}

function codeOf(error: unknown): FailureCode {
  if (error instanceof CallFailure) return error.code;
  if (error instanceof Error && error.name === "VatelConnectError") {
    return (error as VatelConnectError).code === "refused" ? "media_refused" : "media_unreachable";
  }
  if (error instanceof Error && error.name === "PublishTrackError") return "media_refused";
  if (error instanceof Error && error.name === "NotConnectedError") return "media_lost";
  return "page_error";
}
