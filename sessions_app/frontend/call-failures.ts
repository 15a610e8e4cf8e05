/** Why a call could not start or go on: the codes of the site, of the microphone and of the media. */
export type FailureCode = keyof typeof FAILURE_TEXTS;

export class CallFailure extends Error {
  override readonly name = "CallFailure";
  readonly code: FailureCode;

  constructor(code: FailureCode, options?: ErrorOptions) {
    super(code, options);
    this.code = code;
  }
}

export function isFailureCode(code: unknown): code is FailureCode {
  return typeof code === "string" && Object.hasOwn(FAILURE_TEXTS, code);
}

interface FailureText {
  title: string;
  /** What the visitor can do about it. */
  sentence: string;
  /** What the button then does. */
  remedy: "again" | "reload";
}

const PLATFORM_TITLE = "The agent cannot take calls right now";
const MISCONFIGURED: FailureText = {
  title: PLATFORM_TITLE,
  sentence:
    "This site is not set up correctly for its voice platform. Its operator can see the reason in the log.",
  remedy: "again",
};

/** What the page says for each code. */
export const FAILURE_TEXTS = {
  microphone_denied: {
    title: "Your microphone is blocked",
    sentence:
      "Allow the microphone for this site (the icon beside the address, or your browser's site settings), then try again.",
    remedy: "again",
  },
  microphone_missing: {
    title: "No microphone found",
    sentence: "Connect a microphone or a headset, then try again.",
    remedy: "again",
  },
  microphone_busy: {
    title: "Your microphone is in use",
    sentence: "Another app or tab may be using it. Close that one, then try again.",
    remedy: "again",
  },
  microphone_failed: {
    title: "Your microphone did not start",
    sentence:
      "Unplug it and plug it in again, or choose another one in your system settings, then try again.",
    remedy: "again",
  },
  insecure_origin: {
    title: "This address cannot use a microphone",
    sentence: "Browsers allow it only on secure pages. Open this site with https:// (or as localhost).",
    remedy: "again",
  },
  site_unreachable: {
    title: "The site does not answer",
    sentence: "Check your internet connection, then try again.",
    remedy: "again",
  },
  csrf_failed: {
    title: "This page is out of date",
    sentence: "Reload the page, then start again. Cookies must be allowed for this site.",
    remedy: "reload",
  },
  bad_request: {
    title: "The site did not understand this page",
    sentence: "Reload the page, then start again.",
    remedy: "reload",
  },
  unknown_agent: {
    title: "This agent is no longer offered",
    sentence: "Reload the page to see who can be called.",
    remedy: "reload",
  },
  too_many_calls: {
    title: "Too many calls at once",
    sentence: "End another call, or wait a minute, then try again.",
    remedy: "again",
  },
  platform_rejected: MISCONFIGURED,
  platform_key_refused: MISCONFIGURED,
  platform_agent_foreign: MISCONFIGURED,
  platform_agent_unknown: MISCONFIGURED,
  platform_media_origin: MISCONFIGURED,
  platform_busy: {
    title: "All lines are busy",
    sentence: "The voice platform has no room for another call. Try again in a minute.",
    remedy: "again",
  },
  platform_failed: {
    title: PLATFORM_TITLE,
    sentence: "The voice platform reported an error. Try again in a minute.",
    remedy: "again",
  },
  platform_bad_answer: {
    title: PLATFORM_TITLE,
    sentence: "The voice platform gave an answer that makes no sense. Try again in a minute.",
    remedy: "again",
  },
  platform_timeout: {
    title: PLATFORM_TITLE,
    sentence: "The voice platform took too long to answer. Try again in a minute.",
    remedy: "again",
  },
  platform_unreachable: {
    title: PLATFORM_TITLE,
    sentence: "The voice platform cannot be reached. Try again in a minute.",
    remedy: "again",
  },
  media_unreachable: {
    title: "The call could not be connected",
    sentence: "A firewall or a VPN may block it. Try again, or try another network.",
    remedy: "again",
  },
  media_refused: {
    title: "The call was refused",
    sentence: "The media server did not accept it. Start again for a fresh connection.",
    remedy: "again",
  },
  media_lost: {
    title: "The connection was lost",
    sentence: "What was said so far is kept. Check your internet connection, then start again.",
    remedy: "again",
  },
  agent_absent: {
    title: "The agent did not answer",
    sentence: "The line was open, but nobody came. Try again in a minute.",
    remedy: "again",
  },
  page_error: {
    title: "Something went wrong on this page",
    sentence: "Reload the page, then start again.",
    remedy: "reload",
  },
} as const satisfies Record<string, FailureText>;
