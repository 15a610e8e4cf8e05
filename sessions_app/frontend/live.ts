import type { LiveState } from "./call-state";
import type { Say, WireMessage } from "./events";
import { noticesAfter } from "./notices";

export const NOT_LIVE_YET: LiveState = {
  isAgentHere: false,
  speaker: null,
  doing: "listening",
  isMuted: false,
  reconnectingSince: null,
  notices: [],
};

const CHANGES: Readonly<Record<string, Partial<LiveState>>> = {
  agent_here: { isAgentHere: true },
  agent_voice: { isAgentHere: true },
  interruption: { speaker: "caller", doing: "listening" },
  reconnected: { reconnectingSince: null },
  reply_audible: { isAgentHere: true },
  speech_started: { speaker: "caller", doing: "listening" },
  speech_stopped: { speaker: null, doing: "thinking" },
  tool_call: { doing: "thinking" },
};

/** The agent's own messages; what else there is, the session tells of itself. */
const OF_AGENT: ReadonlySet<string> = new Set([
  "input_audio_transcript",
  "interruption",
  "response_text",
  "session_started",
  "speech_started",
  "speech_stopped",
  "tool_call",
]);

export const SIGNS_OF_VOICE: ReadonlySet<string> = new Set(["agent_voice", "reply_audible", "response_text"]);

/** The session may send another track of the microphone's after these. */
export const NEW_TRACKS: ReadonlySet<string> = new Set([
  "microphone_switched",
  "microphone_restored",
  "reconnected",
]);

/** They tell the page whom to wait for; in the log, what the agent does speaks for itself. */
export const UNLOGGED: ReadonlySet<string> = new Set(["agent_here", "agent_voice"]);

/** What a message of the session makes of a live call. `say`: the words in it; `now`: the clock's reading, in ms. */
export function liveAfter(
  live: LiveState,
  message: WireMessage,
  say: Say | undefined,
  now: number,
): LiveState {
  const { type, data } = message;
  const after = { ...live, ...CHANGES[type] };
  if (OF_AGENT.has(type)) after.isAgentHere = true;
  if (say?.role === "agent") {
    after.speaker = say.isFinal ? null : "agent";
    after.doing = say.isFinal ? "listening" : "speaking";
  }
  if (type === "reconnecting") after.reconnectingSince ??= now;
  after.notices = noticesAfter(live.notices, type, typeof data.label === "string" ? data.label : undefined);
  return after;
}

export function isSame(a: LiveState, b: LiveState): boolean {
  return (Object.keys(a) as (keyof LiveState)[]).every((key) => a[key] === b[key]);
}
