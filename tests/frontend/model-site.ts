/**
 * The site and the network as the page must expect them, written from the relay's contract: every step of a frame's
 * way (arrival, commit, ack, delivery) happens when the test says so, or never.
 */

import type { RelaySocket } from "../../sessions_app/frontend/relay";
import type { Answer, Door } from "../../sessions_app/frontend/second-door";
import type { FakeClock } from "./fakes";

/** What the server allows one socket; more is closed with 4429. */
const BURST = 200;
const PER_S = 40;
const WINDOW = 256;

export interface Row {
  seq: number;
  type: string;
  data: Record<string, unknown>;
}

/** A frame of this type cannot be read: the log takes its number, and nothing else of it. */
export const UNREADABLE = "unreadable";

/** One socket, seen from both ends. What is in the two queues is on its way. */
export class ModelSocket implements RelaySocket {
  readyState: 0 | 1 | 2 | 3 = 0;
  onopen: RelaySocket["onopen"] = null;
  onmessage: RelaySocket["onmessage"] = null;
  onclose: RelaySocket["onclose"] = null;
  readonly session: string;
  readonly toServer: string[] = [];
  readonly toPage: (string | { close: number })[] = [];
  /** The server's end. */
  isServed = false;
  isOver = false;
  enqueued = 0;
  waiting: Row[] = [];
  tokens = BURST;
  at = 0;

  constructor(session: string) {
    this.session = session;
  }

  /** As the page counts: it may still send into it. */
  get isLive(): boolean {
    return this.readyState < 2;
  }

  send(text: string): void {
    if (this.readyState === 0) throw new Error("sent into a socket that is not open yet");
    if (this.readyState === 1) this.toServer.push(text);
  }

  close(): void {
    if (this.isLive) this.readyState = 2;
  }

  /** The page learns of it: now, and with nothing that was on its way. */
  drop(code: number): void {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.toPage.length = 0;
    this.onclose?.call(this as never, { code } as CloseEvent);
  }
}

interface Post {
  session: string;
  frames: Row[];
  bytes: number;
  outlivesPage: boolean;
  door: ModelDoor;
  resolve: (answer: Answer) => void;
  reject: (error: Error) => void;
}

export class ModelDoor implements Door {
  readonly #site: ModelSite;
  isPageGone = false;

  constructor(site: ModelSite) {
    this.#site = site;
  }

  get room(): number {
    return 60 * 1024 - this.#site.lastingBytes(this);
  }

  post(session: string, body: string, { outlivesPage } = { outlivesPage: false }): Promise<Answer> {
    const { frames } = JSON.parse(body) as { frames: Row[] };
    const bytes = new TextEncoder().encode(body).length;
    return new Promise((resolve, reject) => {
      this.#site.posts.push({ session, frames, bytes, outlivesPage, door: this, resolve, reject });
      if (this.#site.lastingBytes(this) > 64 * 1024) this.#site.complain("over the browser's quota");
      if (frames.length > 1000) this.#site.complain("too many frames in one request");
    });
  }
}

export class ModelSite {
  readonly logs = new Map<string, Row[]>();
  readonly sockets: ModelSocket[] = [];
  readonly posts: Post[] = [];
  /** What an honest page never does. */
  readonly complaints: string[] = [];
  isDown = false;
  readonly #clock: FakeClock;

  constructor(clock: FakeClock) {
    this.#clock = clock;
  }

  complain(what: string): void {
    this.complaints.push(what);
  }

  log(session: string): Row[] {
    const log = this.logs.get(session) ?? [];
    this.logs.set(session, log);
    return log;
  }

  lastingBytes(door: ModelDoor): number {
    const lasting = this.posts.filter((post) => post.outlivesPage && post.door === door);
    return lasting.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  connect(session: string): ModelSocket {
    const own = this.sockets.filter((socket) => socket.session === session);
    if (own.some(({ isLive }) => isLive)) this.complain("two sockets at once");
    const socket = new ModelSocket(session);
    this.sockets.push(socket);
    return socket;
  }

  /** Lets in who knocks; a newer socket of a page takes over from its older one. */
  accept(): void {
    for (const socket of this.sockets) {
      if (socket.isServed || socket.isOver || socket.readyState !== 0) continue;
      if (this.isDown) {
        socket.isOver = true;
        socket.drop(1006);
        continue;
      }
      for (const older of this.sockets) {
        if (older !== socket && older.session === socket.session && older.isServed) this.shut(older, 4408);
      }
      socket.isServed = true;
      socket.at = this.#clock.now();
      socket.enqueued = this.log(socket.session).length;
      socket.readyState = 1;
      socket.onopen?.call(socket as never, new Event("open"));
      this.#say(socket, { type: "welcome", ack: socket.enqueued, window: WINDOW });
    }
  }

  /** The server reads up to `count` messages of each socket, also of one that the page has given up. */
  arrive(count: number): void {
    for (const socket of this.sockets) {
      for (let i = 0; i < count && socket.isServed && socket.toServer.length > 0; i += 1) {
        this.#read(socket, socket.toServer.shift() as string);
      }
    }
  }

  /** One transaction for all that waits, then the acks. */
  commit(): void {
    for (const socket of this.sockets) {
      const log = this.log(socket.session);
      for (const row of socket.waiting) {
        if (row.seq !== log.length + 1) continue; // the other door was faster
        if (row.type === UNREADABLE) this.#say(socket, { type: "nack", seq: row.seq, code: "bad_data" });
        log.push(row);
      }
      if (socket.waiting.length > 0) this.#say(socket, { type: "ack", ack: log.length });
      socket.waiting = [];
    }
  }

  /** The page reads up to `count` messages of each of its sockets. */
  deliver(count: number): void {
    for (const socket of this.sockets) {
      for (let i = 0; i < count && socket.toPage.length > 0; i += 1) {
        const message = socket.toPage.shift() as string | { close: number };
        if (typeof message !== "string") socket.drop(message.close);
        else if (socket.readyState === 1)
          socket.onmessage?.call(socket as never, new MessageEvent("message", { data: message }));
      }
    }
  }

  /** An ack comes twice, or an old one late. */
  repeatAcks(): void {
    for (const socket of this.sockets) {
      if (!socket.isServed) continue;
      const ack = this.log(socket.session).length;
      this.#say(socket, { type: "ack", ack: Math.max(0, ack - 1) });
      this.#say(socket, { type: "ack", ack });
    }
  }

  /** The line breaks; `arriving` of the messages on their way still reach the server, then or never. */
  cut(arriving: number): void {
    for (const socket of this.sockets) {
      if (socket.readyState === 3) continue;
      socket.toServer.length = Math.min(socket.toServer.length, arriving);
      if (!socket.isServed) socket.isOver = true;
      socket.drop(1006);
    }
  }

  /** The server ends each line on its own account. */
  shutAll(code: number): void {
    for (const socket of this.sockets) if (socket.isServed) this.shut(socket, code);
  }

  shut(socket: ModelSocket, code: number): void {
    socket.isServed = false;
    socket.isOver = true;
    this.#say(socket, { type: "refused", code: "…", message: "…" });
    socket.toPage.push({ close: code });
  }

  /** SIGKILL: what is not committed is gone. */
  crash(): void {
    this.isDown = true;
    for (const socket of this.sockets) {
      socket.waiting = [];
      socket.toServer.length = 0;
      socket.isServed = false;
      socket.isOver = true;
      socket.drop(1006);
    }
  }

  /** SIGTERM: intake stops, what was taken is committed and acknowledged, then the sockets are closed. */
  drain(): void {
    this.commit();
    this.shutAll(4012);
    this.isDown = true;
  }

  /** Answers the requests under way; those that the network loses may have been read or not. */
  servePosts(fate: "answered" | "lost" | "answer lost"): void {
    for (const post of this.posts.splice(0)) {
      if (post.door.isPageGone && !post.outlivesPage) continue;
      if (this.isDown || fate === "lost") {
        post.reject(new TypeError("Failed to fetch"));
        continue;
      }
      const log = this.log(post.session);
      let answer: Answer = {};
      for (const frame of post.frames) {
        if (frame.seq === log.length + 1) log.push(frame);
        else if (frame.seq > log.length) {
          answer = { code: "gap" };
          break;
        }
      }
      if (fate === "answered") post.resolve({ ...answer, ack: log.length });
      else post.reject(new TypeError("Failed to fetch"));
    }
  }

  #say(socket: ModelSocket, message: Record<string, unknown>): void {
    if (socket.readyState < 2) socket.toPage.push(JSON.stringify(message));
  }

  #read(socket: ModelSocket, text: string): void {
    const now = this.#clock.now();
    socket.tokens = Math.min(BURST, socket.tokens + ((now - socket.at) / 1000) * PER_S) - 1;
    socket.at = now;
    if (socket.tokens < 0) this.complain("too fast");
    const { seq, type, data } = JSON.parse(text) as Row;
    if (seq === undefined) return;
    const log = this.log(socket.session);
    socket.enqueued = Math.max(socket.enqueued, log.length);
    if (seq <= log.length) this.#say(socket, { type: "ack", ack: log.length });
    else if (seq === socket.enqueued + 1) {
      socket.enqueued = seq;
      socket.waiting.push({ seq, type, data });
      if (socket.waiting.length > WINDOW) this.complain("over the window");
    } else if (seq > socket.enqueued) {
      this.complain(`a gap: ${seq} after ${socket.enqueued}`);
      this.shut(socket, 4409);
    }
  }
}
