/** Why a call could not start or go on: the codes of the site, of the microphone and of the media. */
export type FailureCode = keyof typeof FAILURE_TEXTS;

export class CallFailure extends Error {
  override readonly name = "CallFailure";
  readonly code: FailureCode;
  /** The site's own sentence, where it is the site that tells of the failure. */
  readonly sentence: string | undefined;

  constructor(code: FailureCode, { sentence, ...options }: ErrorOptions & { sentence?: string } = {}) {
    super(code, options);
    this.code = code;
    this.sentence = sentence;
  }
}

export interface FailureText {
  title: string;
  /** What is wrong, and what the visitor can do about it. Left out: the site's answer says it. */
  sentence?: string;
  /** What the button then does. */
  remedy: "again" | "reload";
}

const PLATFORM_TROUBLE = { title: "The agent cannot take calls right now", remedy: "again" } as const;
const MISCONFIGURED = { title: "This site is not set up correctly", remedy: "again" } as const;

/** What the page says for each code; the site has the sentences for its own (vatel.py, views.py). */
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
    remedy: "reload",
  },
  bad_request: {
    title: "The site did not understand this page",
    remedy: "reload",
  },
  unknown_agent: {
    title: "This agent is no longer offered",
    remedy: "reload",
  },
  too_many_calls: {
    title: "Too many calls at once",
    remedy: "again",
  },
  platform_rejected: MISCONFIGURED,
  platform_key_refused: MISCONFIGURED,
  platform_agent_foreign: MISCONFIGURED,
  platform_agent_unknown: MISCONFIGURED,
  platform_no_token: MISCONFIGURED,
  platform_media_origin: MISCONFIGURED,
  platform_busy: {
    title: "All lines are busy",
    remedy: "again",
  },
  platform_failed: PLATFORM_TROUBLE,
  platform_bad_answer: PLATFORM_TROUBLE,
  platform_timeout: PLATFORM_TROUBLE,
  platform_unreachable: PLATFORM_TROUBLE,
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

/** Whether it is the site that tells of failures of this code. */
export function isSiteCode(code: unknown): code is FailureCode {
  if (typeof code !== "string" || !Object.hasOwn(FAILURE_TEXTS, code)) return false;
  const text: FailureText = FAILURE_TEXTS[code as FailureCode];
  return text.sentence === undefined;
}
