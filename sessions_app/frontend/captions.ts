/** What captions say and in which order they stand; no DOM in here. */

import { type Data, isErrorOutput, type Say } from "./events";

/** What decides whether a caption counts as cut off. */
export type Spoken = Pick<Say, "role" | "isFinal" | "at_ms">;

export interface SayLine extends Spoken {
  kind: "say";
  text: string;
  isCut: boolean;
}

export interface ToolLine {
  kind: "tool";
  at_ms: number;
  name: string;
  arguments: Data;
  /** Left out: there is no answer yet, or there will be none. */
  output?: string;
  took_ms?: number;
}

export interface ListLine {
  kind: "list";
  at_ms: number;
  title: string;
  items: readonly string[];
}

/** One thing of a call that the visitor can see. `at_ms`: when it began, since the call's start. */
export type Line = SayLine | ToolLine | ListLine;

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

/**
 * The index at which a line belongs that began at `at_ms`: a transcript comes after the reply to it has begun, but
 * belongs before it. Of lines that began together, the one that came first stays first.
 */
export function placeOf(lines: readonly Pick<Line, "at_ms">[], at_ms: number): number {
  return lines.findLastIndex((line) => line.at_ms <= at_ms) + 1;
}

/** The words of a turn after another text of it has come: a second final text holds the turn's next words. */
export function wordsAfter(line: Pick<SayLine, "text" | "isFinal">, text: string): string {
  return line.isFinal && line.text !== text ? `${line.text} ${text}`.trim() : text;
}

/** The whole conversation as a text, a line each with its time. */
export function transcriptText(lines: readonly Line[], agentName: string, began: Date): string {
  const head = `Call with ${agentName}, ${began.toLocaleString()}`;
  return [
    head,
    "",
    ...lines.map((line) => `[${clockTime(line.at_ms)}] ${lineText(line, agentName)}`),
    "",
  ].join("\n");
}

/** A name for the file that the transcript is kept in: the agent's name and the local time. */
export function transcriptName(agentName: string, began: Date): string {
  const agent = agentName.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? ["call"];
  const parts = [began.getMonth() + 1, began.getDate(), began.getHours(), began.getMinutes()];
  const [month, day, hours, minutes] = parts.map((part) => String(part).padStart(2, "0"));
  return `${agent.join("-")}-${began.getFullYear()}-${month}-${day}-${hours}${minutes}.txt`;
}

function lineText(line: Line, agentName: string): string {
  switch (line.kind) {
    case "say": {
      const words = line.isCut ? `${line.text} — (cut off)`.trim() : line.text;
      return `${line.role === "caller" ? "You" : agentName}: ${words}`;
    }
    case "tool": {
      const asked = briefly(line.arguments);
      const used = `${agentName} used ${line.name}${asked && ` (${asked})`}, ${outcome(line)}`;
      return line.output === undefined ? used : `${used}: ${line.output.trim()}`;
    }
    case "list":
      return `${line.title}: ${line.items.join(", ")}`;
  }
}

/** How a tool call went, in a few words. `isOver`: nobody will answer it any more. */
export function outcome({ output, took_ms }: Pick<ToolLine, "output" | "took_ms">, isOver = true): string {
  if (output === undefined) return isOver ? "not answered" : "running…";
  const time = took_ms === undefined ? "" : duration(took_ms);
  if (isErrorOutput(output)) return time ? `failed after ${time}` : "failed";
  return time ? `done in ${time}` : "done";
}

/** Arguments as a reader would write them down: `city: Paris, days: 3`. */
export function briefly(values: Data): string {
  return Object.entries(values)
    .map(([name, value]) => `${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(", ");
}

/** JSON with its lines indented; any other text as it is. */
export function pretty(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json; // an output can be any string
  }
}

/** Minutes and seconds: `2:05`. */
export function clockTime(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

function duration(ms: number): string {
  return ms < 100 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}
