import type { Notice } from "./call-state";
import { isSituation, SITUATIONS, type SituationCode } from "./situations";

/** What ends a notice; what begins one has the notice's own name. */
const ENDS: Readonly<Record<string, readonly SituationCode[]>> = {
  agent_heard: ["agent_unheard"],
  connection_good: ["connection_poor"],
  microphone_heard: ["microphone_silent"],
  microphone_restored: ["microphone_lost", "microphone_muted_by_hardware", "microphone_silent"],
  microphone_switched: ["microphone_lost", "microphone_muted_by_hardware", "microphone_silent"],
  playback_allowed: ["playback_blocked"],
  reconnected: ["reconnecting", "connection_poor"],
  reconnecting: ["connection_poor"], // says the same, and more
};

/** The most urgent first: what keeps the two from hearing each other, then what the visitor may want to know. */
const URGENCY: readonly SituationCode[] = [
  "reconnecting",
  "playback_blocked",
  "microphone_unusable", // above the loss that it was meant to mend, or the click would seem to have done nothing
  "microphone_lost",
  "microphone_muted_by_hardware",
  "microphone_silent",
  "agent_unheard",
  "connection_poor",
  "speaker_unusable",
  "microphone_switched",
  "speaker_gone",
  "microphone_offered",
  "speaker_offered",
];

/** The notices of a call, as they come and go. Never changed in place: each change gives a new list. */
export type Notices = readonly Notice[];

export function withNotice(notices: Notices, notice: Notice): Notices {
  const others = notices.filter(({ code }) => code !== notice.code);
  return [...others, notice].sort((a, b) => URGENCY.indexOf(a.code) - URGENCY.indexOf(b.code));
}

export function withoutNotice(notices: Notices, ...codes: readonly SituationCode[]): Notices {
  return notices.some(({ code }) => codes.includes(code))
    ? notices.filter(({ code }) => !codes.includes(code))
    : notices;
}

/** What a message of the session, by its type and the device that it names, makes of the notices. */
export function noticesAfter(notices: Notices, type: string, detail?: string): Notices {
  const rest = withoutNotice(notices, ...(ENDS[type] ?? []));
  if (!isSituation(type) || SITUATIONS[type].kind !== "notice") return rest;
  return withNotice(rest, detail ? { code: type, detail } : { code: type });
}
