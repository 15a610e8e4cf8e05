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
