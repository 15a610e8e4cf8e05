/** The catalogue of what can go wrong, or needs a decision, in a call. The site and the documents share it. */

import catalogue from "../situations.json";

export type SituationCode = keyof typeof catalogue;

/** What the one button does: see `ACTIONS` in talk-page.ts for its name. */
export type Action =
  | "again"
  | "reload"
  | "login"
  | "agents"
  | "here"
  | "unblock"
  | "microphone"
  | "device"
  | "dismiss"
  | "none";

export interface Situation {
  group: string;
  /** "failure": no call could be made, or it has ended by this. "notice": the call goes on. */
  kind: "failure" | "notice";
  title: string;
  /** What is wrong, and what the visitor can do about it. */
  sentence: string;
  action: Action;
}

export const SITUATIONS = catalogue as Record<SituationCode, Situation>;

export function isSituation(code: unknown): code is SituationCode {
  return typeof code === "string" && Object.hasOwn(SITUATIONS, code);
}

/** Whether it is the site that tells of failures of this code. */
export function isSiteCode(code: unknown): code is SituationCode {
  return isSituation(code) && ["site", "limits", "platform"].includes(SITUATIONS[code].group);
}

/** Why there is no call, or no call any more. */
export class CallFailure extends Error {
  override readonly name = "CallFailure";
  readonly code: SituationCode;
  /** The site's own sentence, where it knows more than the catalogue. */
  readonly sentence: string | undefined;

  constructor(code: SituationCode, { sentence, ...options }: ErrorOptions & { sentence?: string } = {}) {
    super(code, options);
    this.code = code;
    this.sentence = sentence;
  }
}
