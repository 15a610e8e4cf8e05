/** Why a call could not be made, or ended: errors and LiveKit's reasons as situations. */

import type { VatelConnectError } from "@vatel/sdk";
import type { Data } from "./events";
import { CallFailure, type SituationCode } from "./situations";

/** By LiveKit's numbers: https://docs.livekit.io/reference/client-sdk-js/enums/DisconnectReason.html */
const REASONS: Readonly<Record<number, SituationCode>> = {
  1: "page_asleep", // "client": nobody here has asked for it, but LiveKit leaves when a browser freezes the page
  2: "taken_over",
  3: "room_closed", // the server shuts down
  4: "room_closed", // the caller was removed
  5: "room_closed",
  10: "room_closed",
};

/** Of a `disconnected` message that neither side has asked for. */
export function lossOf({ agent_left, gave_up, reason }: Data): SituationCode {
  if (agent_left) return "agent_left";
  if (gave_up) return "media_lost"; // whatever the reason: it left because nothing came any more
  return (typeof reason === "number" ? REASONS[reason] : undefined) ?? "media_lost";
}

export function failureOf(error: unknown): SituationCode {
  if (error instanceof CallFailure) return error.code;
  switch (error instanceof Error ? error.name : "") {
    case "VatelConnectError":
      return connectFailureOf(error as VatelConnectError);
    case "PublishTrackError":
      return "media_refused";
    case "NotConnectedError":
      return "media_lost";
    default:
      return "page_error";
  }
}

/** Whether the media server refused the token itself: then nothing is open, and another token may do. */
export function isTokenRefused(error: unknown): boolean {
  return error instanceof Error && error.name === "VatelConnectError" && failureOf(error) === "media_refused";
}

function connectFailureOf({ code }: VatelConnectError): SituationCode {
  if (code === "refused") return "media_refused";
  return code === "no_media" ? "media_blocked" : "media_unreachable";
}
