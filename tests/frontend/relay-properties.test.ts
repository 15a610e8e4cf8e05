/** Whatever happens between page and site, the log holds what was recorded: each once, in order, without gaps. */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Clock } from "../../sessions_app/frontend/clock";
import { Relay, type Standing } from "../../sessions_app/frontend/relay";
import { postLeftovers, Unsent } from "../../sessions_app/frontend/unsent";
import { FakeClock, FakeStorage, settled } from "./fakes";
import { ModelDoor, ModelSite, type ModelSocket, type Row, UNREADABLE } from "./model-site";

const WAITS_MS = [0, 30, 400, 3_000, 16_000, 61_000];

const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant("record"), count: fc.integer({ min: 1, max: 8 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("record"), count: fc.constantFrom(100, 400) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom("record long", "record unreadable", "caption") }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("wait"), ms: fc.constantFrom(...WAITS_MS) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("accept") }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("arrive"), count: fc.constantFrom(1, 3, 1000) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constantFrom("commit", "repeat acks") }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("deliver"), count: fc.constantFrom(1, 2, 1000) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("cut"), arriving: fc.constantFrom(0, 1, 1000) }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("close"), code: fc.constantFrom(1000, 4012, 4429, 4500, 4503) }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom("crash", "drain", "start", "start") }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom("hide", "leave", "online", "finish") }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom("close the page", "kill the page") }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("posts"),
      fate: fc.constantFrom("answered", "lost", "answer lost"),
    }),
  },
);

type Step = {
  do: string;
  count?: number;
  ms?: number;
  arriving?: number;
  code?: number;
  fate?: "answered" | "lost" | "answer lost";
};

/** One load of the page, with one call of its own. When it is gone, nothing of it runs any more. */
class Page {
  readonly session: string;
  readonly relay: Relay;
  standing: Standing = "sent";
  readonly recorded: Row[] = [];
  readonly #door: ModelDoor;
  readonly #sockets: ModelSocket[] = [];
  #isGone = false;
  #isFinished = false;

  constructor(
    session: string,
    site: ModelSite,
    clock: FakeClock,
    storage: FakeStorage,
    random: () => number,
  ) {
    this.session = session;
    this.#door = new ModelDoor(site);
    void postLeftovers(storage, this.#door);
    const own: Clock = {
      now: () => clock.now(),
      date: () => clock.date(),
      after: (ms, task) => clock.after(ms, () => this.#isGone || task()),
    };
    this.relay = new Relay({
      clock: own,
      openSocket: () => {
        const socket = site.connect(session);
        this.#sockets.push(socket);
        return socket;
      },
      unsent: new Unsent(session, storage, this.#door),
      onToolOutput: () => undefined,
      onStanding: (standing) => {
        this.standing = standing;
      },
      random,
    });
  }

  record(type: string, length = 0): void {
    if (this.#isFinished) return;
    const seq = this.recorded.length + 1;
    const data = { text: `${"é".repeat(length)}${seq}` };
    this.recorded.push({ seq, type, data });
    this.relay.record({ at_ms: seq, type, data });
  }

  finish(): void {
    this.#isFinished = true;
    this.relay.finish();
  }

  close(): void {
    this.record("hang_up");
    this.finish();
    this.relay.leave();
    this.kill();
  }

  kill(): void {
    this.#isGone = true;
    this.#door.isPageGone = true;
    for (const socket of this.#sockets) {
      socket.onmessage = null;
      socket.onclose = null;
      socket.close();
    }
  }
}

class World {
  readonly clock = new FakeClock();
  readonly site = new ModelSite(this.clock);
  readonly storage = new FakeStorage();
  readonly pages: Page[] = [];
  #seed: number;

  constructor(seed: number) {
    this.#seed = seed;
    this.load();
  }

  get page(): Page {
    return this.pages.at(-1) as Page;
  }

  load(): void {
    const random = () => {
      this.#seed = (this.#seed * 1_103_515_245 + 12_345) % 2 ** 31;
      return this.#seed / 2 ** 31;
    };
    const session = `session-${this.pages.length + 1}`;
    this.pages.push(new Page(session, this.site, this.clock, this.storage, random));
  }

  async run(steps: Step[]): Promise<void> {
    for (const step of steps) {
      await this.#do(step);
      await settled();
    }
  }

  async #do({ do: what, count = 1, ms = 0, arriving = 0, code = 0, fate = "answered" }: Step): Promise<void> {
    const { page, site, clock } = this;
    const at_ms = 0;
    switch (what) {
      case "record":
        for (let i = 0; i < count; i += 1) page.record("speech_started");
        break;
      case "record long":
        return page.record("response_text", 12_000);
      case "record unreadable":
        return page.record(UNREADABLE);
      case "caption":
        return page.relay.interim({
          at_ms,
          type: "response_text",
          data: { text: "…", turn_id: clock.now() },
        });
      case "wait":
        return clock.pass(ms);
      case "accept":
        return site.accept();
      case "arrive":
        return site.arrive(count);
      case "commit":
        return site.commit();
      case "repeat acks":
        return site.repeatAcks();
      case "deliver":
        return site.deliver(count);
      case "cut":
        return site.cut(arriving);
      case "close":
        return site.shutAll(code);
      case "crash":
        return site.crash();
      case "drain":
        return site.drain();
      case "start":
        site.isDown = false;
        break;
      case "hide":
        return page.relay.hide();
      case "leave":
        return page.relay.leave();
      case "online":
        return page.relay.reconnectNow();
      case "finish":
        return page.finish();
      case "close the page":
        page.close();
        return this.load();
      case "kill the page":
        page.kill();
        return this.load();
      case "posts":
        return site.servePosts(fate);
      default:
        throw new Error(`no such step: ${what}`);
    }
  }

  /** Everything works again, for long enough. */
  async heal(): Promise<void> {
    this.site.isDown = false;
    for (let i = 0; i < 200; i += 1) {
      this.site.accept();
      this.site.arrive(1_000);
      this.site.commit();
      this.site.deliver(1_000);
      this.site.servePosts("answered");
      await settled();
      if (this.storage.length === 0) return;
      await this.clock.pass(500);
    }
  }

  assertWhole(page: Page): void {
    assert.deepEqual(
      this.site.log(page.session).map(({ seq, type, data }) => [seq, type, data.text]),
      page.recorded.map(({ seq, type, data }) => [seq, type, data.text]),
      `the log of ${page.session}`,
    );
  }
}

test("cuts, losses, repeats, restarts, reloads and closed tabs leave the log whole", async (t) => {
  t.mock.method(console, "warn", () => undefined);
  await fc.assert(
    fc.asyncProperty(fc.nat(), fc.array(step, { minLength: 5, maxLength: 60 }), async (seed, steps) => {
      const world = new World(seed);
      await world.run(steps);
      await world.heal();
      world.assertWhole(world.page);
      assert.equal(world.page.standing, "sent");
      world.page.kill();
      world.load();
      await world.heal();
      for (const page of world.pages) world.assertWhole(page);
      assert.equal(world.storage.length, 0);
      assert.deepEqual(world.site.complaints, []);
    }),
    { numRuns: 500 },
  );
});
