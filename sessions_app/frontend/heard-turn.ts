/**
 * Which turn a place in the recording belongs to. No DOM in here.
 *
 * The recording begins at `zeroMs` of the log's clock (the server works it out, see playhead.py). A turn's `atMs` is
 * when the page was told of it, some tenths of a second after its first sound: so it counts from a lead before that,
 * and playing it begins there.
 */

/** Longer than it takes to be sure of speech and to tell the page; shorter than the pause before most replies. */
export const LEAD_MS = 500;
/** A player stops at whole samples or packets, a little before the place that it was sent to. */
const ROUNDING_MS = 50;

/** Where to begin to play a turn, in seconds of the recording. */
export function playFrom(atMs: number, zeroMs: number): number {
  return Math.max(0, atMs - zeroMs - LEAD_MS) / 1000;
}

/** The index of the turn that is heard `second` seconds into the recording: the last that has begun, or -1. */
export function heardTurn(turnsAtMs: readonly number[], zeroMs: number, second: number): number {
  return turnsAtMs.findLastIndex((atMs) => playFrom(atMs, zeroMs) * 1000 <= second * 1000 + ROUNDING_MS);
}
