/** The wire's messages and the page's own events, as the log takes them (the server's side: events.py). */

export type Data = Record<string, unknown>;

/** A message as the voice session tells it, its spelling already made uniform. */
export interface WireMessage {
  type: string;
  timestamp?: string;
  data: Data;
}

/** What happened, for the log. `at_ms`: when it began, in milliseconds since the call's start. */
export interface Entry {
  at_ms: number;
  type: string;
  timestamp?: string;
  data: Data;
  /** On a tool call that the page answers itself; the server runs the others. */
  runs_on?: "page";
}

/** An entry under its number in the log. */
export interface Frame extends Entry {
  seq: number;
}

/** A caption that is still changing: shown to staff who watch, never stored. */
export interface Interim {
  at_ms: number;
  type: "response_text" | "input_audio_transcript";
  data: Data;
}

/** What one party says in one turn, as far as it is known. */
export interface Say {
  role: "caller" | "agent";
  turn: string;
  text: string;
  isFinal: boolean;
  at_ms: number;
}

export interface ToolCall {
  at_ms: number;
  id: string;
  name: string;
  arguments: Data;
}

/** A wire message in its place on the call's clock. */
export type Placed =
  | { entry: Entry; interim?: never; say?: Say }
  | { entry?: never; interim: Interim; say: Say };

/** A longer silence separates two turns, even if no words came between them. */
const LONG_PAUSE_MS = 5_000;

interface Stretch {
  began: number;
  stopped?: number;
}

/**
 * Puts wire messages on the call's clock. Texts arrive after the speech that they render, finals later than
 * whatever the other party has begun to say meanwhile; so a text stands where its speech began: a transcript at
 * the `speech_started` before it (else its first interim), a reply at its first interim.
 */
export class Timeline {
  /** Stretches of the caller's speech that no transcript has claimed yet. */
  #speech: Stretch[] = [];
  /** When the caller was last heard to stop. */
  #stoppedAt = 0;
  readonly #began = new Map<string, number>();
  /** The newest text of each turn that is not complete, unless it is empty. */
  readonly #unfinished = new Map<string, Interim>();
  readonly #unnamed = { caller: { count: 0, isOpen: false }, agent: { count: 0, isOpen: false } };

  /** What is being said now, as far as it is known; the turn that began last comes last. */
  get unfinished(): Interim[] {
    return [...this.#unfinished.values()];
  }

  /** `now`: milliseconds since the call's start at which the message arrived. */
  place(message: WireMessage, now: number): Placed {
    const { type, timestamp, data } = message;
    if (type === "response_text" || type === "input_audio_transcript") {
      const say = this.#say(type, data, now);
      // Speech that has stopped belongs to the turn that is complete now; speech that goes on, to the next.
      if (say.role === "caller" && say.isFinal) {
        this.#speech = this.#speech.filter((stretch) => stretch.stopped === undefined);
      }
      const interim: Interim = { at_ms: say.at_ms, type, data };
      const key = `${say.role} ${say.turn}`;
      if (say.isFinal || !say.text.trim()) this.#unfinished.delete(key);
      else this.#unfinished.set(key, interim);
      if (!say.isFinal) return { interim, say };
      return { entry: entryOf(type, say.at_ms, { ...data, ...this.took(interim, now) }, timestamp), say };
    }
    const last = this.#speech.at(-1);
    if (type === "speech_stopped") this.#stoppedAt = now;
    if (type === "speech_stopped" && last) last.stopped = now;
    if (type === "speech_started") {
      if (last) last.stopped ??= last.began; // a platform that never says "stopped"
      this.#speech.push({ began: now });
    }
    return { entry: entryOf(type, Math.round(now), data, timestamp) };
  }

  /**
   * How long the speech took whose text is complete `now`, if the page has noticed its beginning and its end: the
   * agent's final text comes when the agent falls silent, the caller's some time after that.
   */
  took({ type, at_ms }: Interim, now: number): { took_ms?: number } {
    const took_ms = Math.round((type === "response_text" ? now : this.#stoppedAt) - at_ms);
    return took_ms > 0 ? { took_ms } : {};
  }

  #say(type: Interim["type"], data: Data, now: number): Say {
    const role = type === "response_text" ? "agent" : "caller";
    const text = role === "agent" ? data.text : data.transcript;
    const isFinal = data.is_final !== false; // older platforms send finals only, unmarked
    const turn =
      typeof data.turn_id === "string" && data.turn_id ? data.turn_id : this.#nameTurn(role, isFinal);
    const at_ms = this.#beginning(role, turn, now);
    return { role, turn, text: typeof text === "string" ? text : "", isFinal, at_ms };
  }

  /** A name for a turn that came without an id: it lasts until its final text. */
  #nameTurn(role: Say["role"], isFinal: boolean): string {
    const unnamed = this.#unnamed[role];
    if (!unnamed.isOpen) unnamed.count += 1;
    unnamed.isOpen = !isFinal;
    return `unnamed-${role}-${unnamed.count}`;
  }

  #beginning(role: Say["role"], turn: string, now: number): number {
    const key = `${role} ${turn}`;
    let began = this.#began.get(key);
    if (began === undefined) {
      began = Math.round((role === "caller" ? this.#claimSpeech() : undefined) ?? now);
      this.#began.set(key, began);
    }
    return began;
  }

  /**
   * When the speech of a turn began whose first words arrive now. Pauses inside a turn are short, so the
   * walk back over the stretches ends at a long one: what lies before it was a noise that had no words.
   */
  #claimSpeech(): number | undefined {
    let first = this.#speech.length - 1;
    for (; first > 0; first -= 1) {
      const [earlier, later] = this.#speech.slice(first - 1, first + 1) as [Stretch, Stretch];
      if (later.began - (earlier.stopped ?? earlier.began) > LONG_PAUSE_MS) break;
    }
    const claimed = this.#speech[first];
    this.#speech = this.#speech.slice(first + 1);
    return claimed?.began;
  }
}

function entryOf(type: string, at_ms: number, data: Data, timestamp: string | undefined): Entry {
  return timestamp === undefined ? { at_ms, type, data } : { at_ms, type, timestamp, data };
}

/** The tool call in a `tool_call` message, or null if it has no id or name (nobody could answer it). */
export function toolCallOf(message: WireMessage, at_ms: number): ToolCall | null {
  const { toolCallId: id, toolName: name, arguments: given } = message.data;
  if (typeof id !== "string" || typeof name !== "string") return null;
  const values: Data = {};
  for (const argument of Array.isArray(given) ? given : []) {
    if (argument && typeof argument.name === "string" && argument.value !== undefined) {
      values[argument.name] = argument.value;
    }
  }
  return { at_ms, id, name, arguments: values };
}

/** Whether a tool's output tells the agent of a failure. */
export function isErrorOutput(output: string): boolean {
  try {
    const value: unknown = JSON.parse(output);
    return typeof value === "object" && value !== null && "error" in value;
  } catch {
    return false; // any string is an output; only JSON objects can carry an error
  }
}
