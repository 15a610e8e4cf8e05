/** The browser's own parts, as the tests need them: a clock, a storage, a socket with a log behind it. */

import type { Clock } from "../../sessions_app/frontend/clock";
import type { RelaySocket } from "../../sessions_app/frontend/relay";

export class FakeClock implements Clock {
  #now = 1000;
  #slept = 0;
  #tasks: { at: number; task: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  date(): number {
    return 1_700_000_000_000 + this.#now + this.#slept;
  }

  /** The machine sleeps: its timers and its monotonic clock stand still. */
  sleep(ms: number): void {
    this.#slept += ms;
  }

  after(ms: number, task: () => void): () => void {
    const entry = { at: this.#now + ms, task };
    this.#tasks.push(entry);
    return () => {
      this.#tasks = this.#tasks.filter((other) => other !== entry);
    };
  }

  /** Lets time go by; promises that timers settle have run when this resolves. */
  async pass(ms: number): Promise<void> {
    const end = this.#now + ms;
    for (;;) {
      const next = this.#tasks.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      this.#tasks = this.#tasks.filter((other) => other !== next);
      this.#now = Math.max(this.#now, next.at);
      next.task();
      await settled();
    }
    this.#now = end;
    await settled();
  }
}

export function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

export class FakeStorage implements Storage {
  readonly #items = new Map<string, string>();
  /** How many characters fit. */
  room = Number.POSITIVE_INFINITY;

  get length(): number {
    return this.#items.size;
  }

  key(index: number): string | null {
    return [...this.#items.keys()][index] ?? null;
  }

  getItem(key: string): string | null {
    return this.#items.get(key) ?? null;
  }

  setItem(key: string, value: string): void {
    if (value.length > this.room) throw new DOMException("full", "QuotaExceededError");
    this.#items.set(key, value);
  }

  removeItem(key: string): void {
    this.#items.delete(key);
  }

  clear(): void {
    this.#items.clear();
  }
}

type Row = Record<string, unknown> & { seq: number };

/** One end of a socket; the log holds the other. */
export class FakeSocket implements RelaySocket {
  readyState: 0 | 1 | 2 | 3 = 0;
  onopen: RelaySocket["onopen"] = null;
  onmessage: RelaySocket["onmessage"] = null;
  onclose: RelaySocket["onclose"] = null;
  readonly sent: Record<string, unknown>[] = [];
  readonly #log: FakeLog;

  constructor(log: FakeLog) {
    this.#log = log;
  }

  send(text: string): void {
    if (this.readyState !== 1) throw new Error("sent into a socket that is not open");
    const message = JSON.parse(text);
    this.sent.push(message);
    this.#log.receive(this, message);
  }

  close(): void {
    this.drop(1000);
  }

  /** The server's side: accept, tell, and end. */
  open(): void {
    this.readyState = 1;
    this.onopen?.call(this as never, new Event("open"));
  }

  tell(message: Record<string, unknown>): void {
    this.say(JSON.stringify(message));
  }

  say(data: string): void {
    this.onmessage?.call(this as never, new MessageEvent("message", { data }));
  }

  drop(code: number): void {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.onclose?.call(this as never, { code } as CloseEvent);
  }
}

/** A log that keeps the relay's rules: numbers without gaps, repeats without effect, acks for what is stored. */
export class FakeLog {
  readonly rows: Row[] = [];
  readonly sockets: FakeSocket[] = [];
  readonly interims: Record<string, unknown>[] = [];
  repeats = 0;
  /** False: nothing is acknowledged, as on a line that has gone dead one way. */
  isAnswering = true;
  /** Numbers that are refused, as the server does with what it cannot read. */
  readonly refuses = new Set<number>();

  readonly openSocket = (): FakeSocket => {
    const socket = new FakeSocket(this);
    this.sockets.push(socket);
    return socket;
  };

  get ack(): number {
    return this.rows.length;
  }

  get socket(): FakeSocket {
    const socket = this.sockets.at(-1);
    if (!socket) throw new Error("no socket was opened");
    return socket;
  }

  /** Accepts the newest socket. */
  accept(): FakeSocket {
    this.socket.open();
    this.socket.tell({ type: "welcome", ack: this.ack });
    return this.socket;
  }

  receive(socket: FakeSocket, message: Record<string, unknown>): void {
    const { seq } = message;
    if (typeof seq !== "number") {
      if (message.type !== "ping") this.interims.push(message);
      return;
    }
    if (seq > this.ack + 1) {
      socket.drop(4409);
      return;
    }
    if (seq <= this.ack) this.repeats += 1;
    else if (this.refuses.has(seq)) this.rows.push({ seq, type: "rejected" });
    else this.rows.push({ ...message, seq });
    if (!this.isAnswering) return;
    if (this.refuses.has(seq)) socket.tell({ type: "nack", seq, code: "bad_data", message: "no" });
    socket.tell({ type: "ack", ack: this.ack });
  }
}
