import { Attempt } from "./attempt";
import type { CallEvent, CallState, LiveState, Notice, VoiceSession } from "./call-state";
import type { Clock } from "./clock";
import { failureOf, isTokenRefused, lossOf } from "./endings";
import { type Entry, toolCallOf, type WireMessage } from "./events";
import { isSame, liveAfter, NEW_TRACKS, SIGNS_OF_VOICE, UNLOGGED } from "./live";
import type { Credential } from "./mint";
import { withNotice, withoutNotice } from "./notices";
import { CallFailure, type SituationCode } from "./situations";
import { type Sleep, SleepWatch } from "./sleep-watch";
import type { TabLock } from "./tab-lock";
import { type PageTools, ToolCalls } from "./tool-calls";

/** A prompt may be out of sight, above the page or behind another window. */
const PROMPT_HINT_MS = 8_000;
const PROMPT_LIMIT_MS = 60_000;
const AGENT_ABSENT_MS = 20_000;
/** From the agent's joining to its track. */
const VOICE_ABSENT_MS = 15_000;
/** An agent that has said that the session is over leaves at once; this is for one that stays. */
const FAREWELL_MS = 5_000;
/** They end when another microphone is in use. */
const SITUATIONS_OF_MICROPHONE = [
  "microphone_lost",
  "microphone_muted_by_hardware",
  "microphone_offered",
  "microphone_silent",
  "microphone_switched",
  "microphone_unusable",
] as const;
/** Longer than any tool may take: an agent that has not answered by now is not thinking about it any more. */
const THOUGHT_MS = 15_000;

export interface CallOptions {
  clock: Clock;
  lock: Pick<TabLock, "take" | "release">;
  /** Whether the browser gives the microphone without asking. */
  isMicrophoneGranted: () => Promise<boolean>;
  /** Throws a `CallFailure`. `deviceId`: "" is the system's; left out, the remembered one. */
  openMicrophone: (deviceId?: string) => Promise<MediaStreamTrack>;
  mint: () => Promise<Credential>;
  /** Loads the SDK; what it gives makes a new session for each call. */
  loadSdk: () => Promise<() => VoiceSession>;
  tools: PageTools;
  emit: (event: CallEvent) => void;
}

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

  /**
   * Starts a call; does nothing while one is under way. Call it inside a click. Failures become the state. `here`:
   * in the place of a call in another tab. `isMuted`: the microphone begins muted.
   */
  async start({ here = false, isMuted = false } = {}): Promise<void> {
    if (this.#attempt) return;
    const attempt = new Attempt(this.#options.clock);
    this.#attempt = attempt;
    attempt.live = { ...attempt.live, isMuted };
    try {
      await this.#run(attempt, here);
    } catch (error) {
      this.#fail(attempt, error);
    }
  }

  /** Ends the call, or gives up starting it. */
  hangUp(by: "caller" | "page_closed" = "caller"): void {
    const attempt = this.#attempt;
    if (!attempt) return;
    const entry = attempt.entry("hang_up", { by });
    this.#end(attempt, { name: "ended", by: "caller" }, by === "caller" ? "hang_up" : by, entry);
  }

  async setMuted(isMuted: boolean): Promise<void> {
    const attempt = this.#attempt;
    if (!attempt?.session || this.#state.name !== "live" || this.#state.isMuted === isMuted) return;
    this.#change(attempt, { ...attempt.live, isMuted });
    try {
      await attempt.session.setMicrophoneEnabled(!isMuted);
      if (attempt.isOver) return;
      this.#record(attempt, attempt.entry("microphone_muted", { muted: isMuted }));
      this.#showMicrophone(attempt);
    } catch {
      // Unmuting may have to get the device anew, and it may be gone.
      if (attempt.isOver) return;
      this.#change(attempt, { ...attempt.live, isMuted: !isMuted });
      this.notice({ code: "microphone_lost" });
    }
  }

  /**
   * Speaks with another microphone from now on; "" is the system's, nothing the remembered one, anew. False: it
   * cannot be used, and the one before stays.
   */
  async useMicrophone(deviceId?: string): Promise<boolean> {
    const attempt = this.#attempt;
    if (!attempt?.session || this.#state.name !== "live") return true;
    try {
      const track = await this.#options.openMicrophone(deviceId);
      if (attempt.isOver) {
        track.stop();
        return true;
      }
      await attempt.session.setMicrophoneTrack(track);
      this.#keepMicrophone(attempt, track);
      this.settle(...SITUATIONS_OF_MICROPHONE);
      return true;
    } catch {
      if (!attempt.isOver) this.notice({ code: "microphone_unusable" });
      return attempt.isOver;
    }
  }

  /** Plays the agent on another speaker from now on; "" is the system's. False: it cannot be used. */
  async useSpeaker(deviceId: string): Promise<boolean> {
    try {
      await this.#attempt?.session?.setSpeaker(deviceId);
      this.settle("speaker_unusable", "speaker_offered");
      return true;
    } catch {
      this.notice({ code: "speaker_unusable" });
      return false;
    }
  }

  /** Tells the caller of something, as long as the call lives or until it is settled; the log too. */
  notice(notice: Notice): void {
    const attempt = this.#attempt;
    if (!attempt || this.#state.name !== "live") return;
    this.#change(attempt, { ...attempt.live, notices: withNotice(attempt.live.notices, notice) });
    this.#record(attempt, attempt.entry(notice.code, notice.detail ? { label: notice.detail } : {}));
  }

  settle(...codes: SituationCode[]): void {
    const attempt = this.#attempt;
    if (!attempt) return;
    this.#change(attempt, { ...attempt.live, notices: withoutNotice(attempt.live.notices, ...codes) });
  }

  /** The page is shown again: has it slept meanwhile? */
  pageShown(): void {
    this.#attempt?.sleepWatch?.look();
  }

  /** Lets the agent be heard where the browser wants a click for it. */
  async unblockPlayback(): Promise<void> {
    await this.#attempt?.session?.start().catch(() => undefined); // still refused: the button stays
  }

  /** The output of a tool that the server ran. */
  answerTool(toolCallId: string, output: string): void {
    this.#attempt?.tools?.answer(toolCallId, output);
  }

  async #run(attempt: Attempt, here: boolean): Promise<void> {
    const { isMicrophoneGranted, loadSdk, lock } = this.#options;
    this.#set({ name: "microphone", isUnanswered: false });
    const sdk = loadSdk();
    sdk.catch(() => undefined); // awaited below; without a microphone it does not matter
    attempt.cleanups.push(() => lock.release());
    const isAlone = await lock.take(here, () => this.#fail(attempt, new CallFailure("moved_to_another_tab")));
    if (attempt.isOver) return;
    if (!isAlone) throw new CallFailure("call_elsewhere");

    // A browser that asks first may be refused, or wait longer than a credential is good for. One that does not ask
    // gives the microphone while the site and the media server are at work.
    const microphone = this.#openMicrophone(attempt);
    microphone.catch(() => undefined); // awaited below
    if (!(await isMicrophoneGranted())) await microphone;
    if (attempt.isOver) return;
    await this.#join(attempt, sdk, microphone);
    if (!attempt.isOver) this.#becomeLive(attempt);
  }

  /** Undefined: the attempt is over. */
  async #openMicrophone(attempt: Attempt): Promise<MediaStreamTrack | undefined> {
    const cancelHint = attempt.after(PROMPT_HINT_MS, () =>
      this.#set({ name: "microphone", isUnanswered: true }),
    );
    const cancelLimit = attempt.after(PROMPT_LIMIT_MS, () =>
      this.#fail(attempt, new CallFailure("microphone_ignored")),
    );
    try {
      const track = await this.#options.openMicrophone();
      if (attempt.isOver) {
        track.stop();
        return undefined;
      }
      this.#keepMicrophone(attempt, track);
      this.#set({ name: "connecting" });
      return track;
    } finally {
      cancelHint();
      cancelLimit();
    }
  }

  /** LiveKit may have taken another track than the one that it was given. */
  #showMicrophone({ session }: Attempt): void {
    if (session?.microphoneTrack) this.#options.emit({ kind: "microphone", track: session.microphoneTrack });
  }

  #keepMicrophone(attempt: Attempt, track: MediaStreamTrack): void {
    attempt.cleanups.push(() => track.stop());
    this.#options.emit({ kind: "microphone", track });
  }

  /** Joins a call of the site's. The attempt may be over by then. */
  async #join(
    attempt: Attempt,
    sdk: Promise<() => VoiceSession>,
    microphone: Promise<MediaStreamTrack | undefined>,
  ): Promise<void> {
    for (let isFirst = true; ; isFirst = false) {
      const [credential, createSession] = await Promise.all([this.#mint(attempt), sdk]);
      if (attempt.isOver) return;
      const session = createSession();
      attempt.session = session;
      attempt.tools = this.#toolCalls(attempt, session);
      const unsubscribe = session.on("*", (message) => this.#receive(attempt, message as WireMessage));
      attempt.cleanups.push(unsubscribe);
      try {
        await Promise.all([this.#connect(session, credential), this.#send(attempt, session, microphone)]);
      } catch (error) {
        if (attempt.isOver || !isFirst || !isTokenRefused(error)) throw error;
        // A page that was held up brings its token too late. A fresh one is worth one try, and no word about it.
        unsubscribe();
        this.#record(attempt, attempt.entry("call_failed", { code: "media_refused" }));
        this.#close(attempt);
        continue;
      }
      return attempt.isOver ? session.disconnect() : undefined;
    }
  }

  async #connect(session: VoiceSession, { webrtc_token, url, room }: Credential): Promise<void> {
    await session.connect({ token: webrtc_token, url, room });
    // A refusal to play comes as `playback_blocked` too; the call goes on without sound until the next click.
    void session.start().catch(() => undefined);
  }

  /** Gives the microphone to the session as soon as both are there. */
  async #send(
    attempt: Attempt,
    session: VoiceSession,
    microphone: Promise<MediaStreamTrack | undefined>,
  ): Promise<void> {
    const track = await microphone;
    // A session whose token was refused meanwhile would stop what the next one is to send.
    if (attempt.isOver || attempt.session !== session || !track) return;
    // Not awaited: it counts at once, and is carried out with the track.
    const muting = attempt.live.isMuted ? session.setMicrophoneEnabled(false) : undefined;
    await Promise.all([muting, session.setMicrophoneTrack(track)]);
  }

  async #mint(attempt: Attempt): Promise<Credential> {
    attempt.begin();
    const credential = await this.#options.mint();
    attempt.credential = credential;
    this.#options.emit({ kind: "opened", credential });
    // The site has opened a call that nobody wants any more: tell it, or it counts as running.
    if (attempt.isOver) this.#close(attempt);
    return credential;
  }

  #toolCalls(attempt: Attempt, session: VoiceSession): ToolCalls {
    const { clock, emit, tools } = this.#options;
    const calls = new ToolCalls(
      clock,
      tools,
      (toolCallId, output) => session.sendToolCallOutput(toolCallId, output),
      (call, output) => {
        this.#record(attempt, attempt.entry("tool_call_output", { toolCallId: call.id, output }));
        emit({ kind: "tool", call, output, took_ms: Math.max(0, Math.round(attempt.now() - call.at_ms)) });
      },
    );
    attempt.cleanups.push(() => calls.close());
    return calls;
  }

  #becomeLive(attempt: Attempt): void {
    this.#set({ name: "live", ...attempt.live });
    this.#record(attempt, attempt.entry("connected"));
    const watch = new SleepWatch(this.#options.clock, (sleep) => this.#awake(attempt, sleep));
    attempt.sleepWatch = watch;
    attempt.cleanups.push(() => watch.close());
    attempt.after(AGENT_ABSENT_MS, () => {
      if (!attempt.live.isAgentHere) this.#fail(attempt, new CallFailure("agent_absent"));
    });
  }

  #awake(attempt: Attempt, { began, for_ms, stopped_ms }: Sleep): void {
    this.#record(attempt, attempt.entry("page_asleep", { for_ms }, attempt.at(began)));
    attempt.wake(stopped_ms);
  }

  #receive(attempt: Attempt, message: WireMessage): void {
    if (attempt.isOver) return;
    const { clock, emit } = this.#options;
    const now = attempt.now(); // read once: the reply's latency counts from the very moment that is logged
    const placed = attempt.timeline.place(message, now);
    const { say } = placed;
    if (SIGNS_OF_VOICE.has(message.type)) attempt.hasVoice = true;
    const before = attempt.live;
    this.#change(attempt, liveAfter(before, message, say, clock.now()));
    if (attempt.live.isAgentHere && !before.isAgentHere) {
      attempt.after(
        VOICE_ABSENT_MS,
        () => attempt.hasVoice || this.#fail(attempt, new CallFailure("agent_silent")),
      );
    }
    if (message.type === "speech_stopped") attempt.replyDueAt = now;

    if (message.type === "reply_audible") this.#record(attempt, attempt.replyEntry(message.data));
    else if (message.type === "tool_call") this.#handleToolCall(attempt, message, placed.entry);
    else if (placed.entry && !UNLOGGED.has(message.type)) this.#record(attempt, placed.entry);
    else if (placed.interim && attempt.credential) {
      emit({ kind: "interim", session: attempt.credential.session, interim: placed.interim });
    }
    if (say) emit({ kind: "said", say });
    if (NEW_TRACKS.has(message.type)) this.#showMicrophone(attempt);

    if (message.type === "interruption") emit({ kind: "interrupted" });
    if (message.type === "session_ended") {
      attempt.hasAgentEnded = true;
      attempt.after(FAREWELL_MS, () => this.#endByAgent(attempt));
    }
    if (message.type === "disconnected") {
      if (attempt.hasAgentEnded) this.#endByAgent(attempt);
      else this.#fail(attempt, new CallFailure(attempt.isJustAwake ? "page_asleep" : lossOf(message.data)));
    }
  }

  #handleToolCall(attempt: Attempt, message: WireMessage, entry: Entry | undefined): void {
    const call = entry && toolCallOf(message, entry.at_ms);
    const runs_on = call && attempt.tools?.open(call);
    if (!runs_on) return;
    this.#record(attempt, runs_on === "page" ? { ...entry, runs_on } : entry);
    this.#options.emit({ kind: "tool", call });
    if (runs_on === "page") attempt.tools?.run(call); // the server runs others when the entry arrives
  }

  #fail(attempt: Attempt, error: unknown): void {
    if (attempt.isOver) return;
    const code = failureOf(error);
    if (code === "page_error") console.error("The call failed:", error);
    const state: CallState = { name: "failed", code };
    if (error instanceof CallFailure && error.sentence) state.sentence = error.sentence;
    this.#end(attempt, state, "call_failed", attempt.entry("call_failed", { code }));
  }

  #endByAgent(attempt: Attempt): void {
    this.#end(attempt, { name: "ended", by: "agent" }, "session_ended");
  }

  #end(attempt: Attempt, state: CallState, cutBy: string, lastEntry?: Entry): void {
    if (attempt.isOver) return;
    attempt.isOver = true;
    this.#attempt = null;
    // Nobody will tell the end of these sentences any more: what was heard of them is all that the page has.
    for (const interim of attempt.timeline.unfinished) {
      const { at_ms, type } = interim;
      const took = attempt.timeline.took(interim, attempt.now());
      const data = { ...interim.data, is_final: true, cut_by: cutBy, ...took };
      this.#record(attempt, { at_ms, type, data });
    }
    if (lastEntry) attempt.lastEntry = lastEntry;
    if (attempt.credential) this.#close(attempt);
    for (const cleanup of attempt.cleanups) cleanup();
    this.#options.emit({ kind: "microphone", track: null });
    attempt.session?.disconnect().catch(() => undefined); // the session has let go of everything here already
    this.#set(state);
  }

  /** Writes the last entry and closes the log. */
  #close(attempt: Attempt): void {
    if (attempt.lastEntry) this.#record(attempt, attempt.lastEntry);
    if (attempt.credential) this.#options.emit({ kind: "closed", session: attempt.credential.session });
    attempt.credential = undefined;
  }

  #record(attempt: Attempt, entry: Entry): void {
    if (attempt.credential) {
      this.#options.emit({ kind: "entry", session: attempt.credential.session, entry });
    }
  }

  #change(attempt: Attempt, live: LiveState): void {
    const before = attempt.live;
    attempt.live = live;
    if (live.doing !== before.doing) this.#limitThought(attempt);
    if (this.#state.name === "live" && !isSame(before, live)) this.#set({ name: "live", ...live });
  }

  /** What the caller said may have been for somebody else in the room: then nobody is thinking about it. */
  #limitThought(attempt: Attempt): void {
    attempt.cancelThought();
    if (attempt.live.doing !== "thinking") return;
    attempt.cancelThought = attempt.after(THOUGHT_MS, () =>
      this.#change(attempt, { ...attempt.live, doing: "listening" }),
    );
  }

  #set(state: CallState): void {
    this.#state = state;
    this.#options.emit({ kind: "state", state });
  }
}
