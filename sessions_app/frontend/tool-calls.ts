import type { Clock } from "./clock";
import type { Data, ToolCall } from "./events";

/** Tools that the page runs itself, by name. An `error` in what they return is for the agent to speak of. */
export type PageTools = Readonly<Record<string, (values: Data) => Data>>;

/**
 * The agent gives up after 10 s; an error in time is better than silence. The server carries nothing out that is
 * older than 8 s (LIMIT_S in tools.py), but what it did in time may have been told to a line that was cut.
 */
const ANSWER_MS = 9_000;
const RETRY_MS = 1_000;
const MAX_TRIES = 10;

interface Pending {
  call: ToolCall;
  output?: string;
  tries: number;
  cancelTimer: () => void;
}

/** The tool calls of one call: each gets exactly one answer, whoever gives it, and never none. */
export class ToolCalls {
  readonly #pending = new Map<string, Pending>();
  readonly #clock: Clock;
  readonly #tools: PageTools;
  readonly #send: (id: string, output: string) => Promise<unknown>;
  readonly #onSent: (call: ToolCall, output: string) => void;

  /** `tools` are the page's own; `send` passes an output to the agent, `onSent` hears of each that went out. */
  constructor(
    clock: Clock,
    tools: PageTools,
    send: (id: string, output: string) => Promise<unknown>,
    onSent: (call: ToolCall, output: string) => void,
  ) {
    this.#clock = clock;
    this.#tools = tools;
    this.#send = send;
    this.#onSent = onSent;
  }

  /** Begins to wait for an answer, and tells whose it is to give; null: this call is known already. */
  open(call: ToolCall): "page" | "server" | null {
    if (this.#pending.has(call.id)) return null;
    const cancelTimer = this.#clock.after(ANSWER_MS, () => this.answer(call.id, noAnswer(call.name)));
    this.#pending.set(call.id, { call, tries: 0, cancelTimer });
    return Object.hasOwn(this.#tools, call.name) ? "page" : "server";
  }

  /** Answers with one of the page's own tools. */
  run({ id, name, arguments: values }: ToolCall): void {
    let output: Data | undefined;
    try {
      output = this.#tools[name]?.(values);
    } catch (error) {
      console.error(`The tool ${name} failed:`, error);
    }
    this.answer(id, JSON.stringify(output ?? { error: "The page could not do that." }));
  }

  /** The first answer counts; later ones, and answers to unknown calls, are ignored. */
  answer(id: string, output: string): void {
    const pending = this.#pending.get(id);
    if (!pending || pending.output !== undefined) return;
    pending.cancelTimer();
    pending.output = output;
    void this.#deliver(pending, output);
  }

  /** The call is over: nobody listens any more. */
  close(): void {
    for (const pending of this.#pending.values()) pending.cancelTimer();
    this.#pending.clear();
  }

  async #deliver(pending: Pending, output: string): Promise<void> {
    const { call } = pending;
    try {
      await this.#send(call.id, output);
    } catch (error) {
      if (!this.#pending.has(call.id)) return;
      pending.tries += 1;
      if (pending.tries === MAX_TRIES) return console.warn(`No answer to ${call.name} could be sent:`, error);
      // The media connection may just be coming back.
      pending.cancelTimer = this.#clock.after(RETRY_MS, () => void this.#deliver(pending, output));
      return;
    }
    if (this.#pending.has(call.id)) this.#onSent(call, output);
  }
}

function noAnswer(name: string): string {
  const error = `${name} did not answer in time, so it is not known whether it was done.`;
  return JSON.stringify({ error, code: "no_answer" });
}
