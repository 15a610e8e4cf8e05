import type { WebRTCSession } from "@vatel/sdk";
import type { Entry, Interim, Say, ToolCall } from "./events";
import type { Credential } from "./mint";
import type { SituationCode } from "./situations";

/** Something that the visitor should know, or decide, while the call goes on. */
export interface Notice {
  code: SituationCode;
  /** The name of the device that it is about. */
  detail?: string;
}

export type CallState =
  | { name: "idle" | "connecting" }
  | { name: "microphone"; isUnanswered: boolean }
  | ({ name: "live" } & LiveState)
  | { name: "ended"; by: "caller" | "agent" }
  | { name: "failed"; code: SituationCode; sentence?: string };

export interface LiveState {
  /** Something has been heard of the agent. */
  isAgentHere: boolean;
  speaker: "caller" | "agent" | null;
  /** What the agent does. */
  doing: "listening" | "thinking" | "speaking";
  isMuted: boolean;
  /** `performance.now()` of the moment at which the connection broke; null while it holds. */
  reconnectingSince: number | null;
  /** The most urgent first. */
  notices: readonly Notice[];
}

/** What the call tells: its state, what the page shows, and what belongs into the log of which session. */
export type CallEvent =
  | { kind: "state"; state: CallState }
  | { kind: "microphone"; track: MediaStreamTrack | null } // the one in use, for those who show its level
  | { kind: "said"; say: Say }
  | { kind: "interrupted" }
  | { kind: "tool"; call: ToolCall; output?: string; took_ms?: number } // how long it took until its output
  | { kind: "opened"; credential: Credential }
  | { kind: "entry"; session: string; entry: Entry }
  | { kind: "interim"; session: string; interim: Interim }
  | { kind: "closed"; session: string };

/** What a call needs of the SDK's session. */
export type VoiceSession = Pick<
  WebRTCSession,
  | "on"
  | "connect"
  | "start"
  | "microphoneTrack"
  | "setMicrophoneTrack"
  | "setMicrophoneEnabled"
  | "setSpeaker"
  | "sendToolCallOutput"
  | "disconnect"
>;
