import type { Say } from "./events";

/** What decides whether a caption counts as cut off. */
export type Spoken = Pick<Say, "role" | "isFinal" | "at_ms">;

/**
 * The agent's caption that an interruption cuts off: what it is saying, or said last. None if the caller has
 * been understood since then: whatever answered those words was cut before its first caption.
 */
export function cutCaption<T extends Spoken>(captions: Iterable<T>): T | undefined {
  const spoken = [...captions].sort((a, b) => a.at_ms - b.at_ms);
  const last = spoken.map(({ role }) => role).lastIndexOf("agent");
  // Words of the caller that still change may be those that cut in.
  const isAnswered = spoken.slice(last + 1).some(({ isFinal }) => isFinal);
  return spoken[last]?.isFinal && isAnswered ? undefined : spoken[last];
}
