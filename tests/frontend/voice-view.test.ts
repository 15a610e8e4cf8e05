import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { Levels } from "../../sessions_app/frontend/levels";
import { VoiceView } from "../../sessions_app/frontend/voice-view";
import { FakeDocument, replaceGlobals } from "./fake-document";

/** A page whose frames the test draws, and two voices of which it sets the loudness. */
class Page extends FakeDocument {
  readonly main = this.add("main", { id: "talk" });
  readonly orb = this.add("div", { id: "orb" }, this.main);
  readonly meter = this.add("div", { id: "meter" }, this.main);
  readonly voices = { caller: 0, agent: 0 };
  readonly lessMotion = { matches: false };
  readonly view: VoiceView;
  readonly frames = new Map<number, (now: number) => void>();
  now = 1_000;
  #requests = 0;

  constructor(context: TestContext) {
    super(context);
    replaceGlobals(context, {
      matchMedia: () => this.lessMotion,
      requestAnimationFrame: (draw: (now: number) => void) => {
        this.#requests += 1;
        this.frames.set(this.#requests, draw);
        return this.#requests;
      },
      cancelAnimationFrame: (request: number) => this.frames.delete(request),
    });
    this.view = new VoiceView(this.main as unknown as HTMLElement);
  }

  start(): void {
    this.view.start({ read: () => this.voices } as Levels);
  }

  /** Draws for so long; gives what the orb showed of the agent in each frame. */
  draw(ms: number): number[] {
    const seen: number[] = [];
    for (const end = this.now + ms; this.now < end; ) {
      this.now += 16;
      const [draw, ...others] = this.frames.values();
      assert.equal(others.length, 0, "one frame at a time");
      this.frames.clear();
      draw?.(this.now);
      seen.push(this.agent);
    }
    return seen;
  }

  get agent(): number {
    return Number(this.orb.style.get("--agent-level"));
  }
}

test("a voice is shown as soon as it is heard, and fades when it is over", (context) => {
  const page = new Page(context);
  page.start();
  page.draw(50);
  assert.equal(page.agent, 0);
  page.voices.agent = 0.8;
  page.draw(200);
  assert.equal(page.agent, 0.8);
  page.voices.agent = 0;
  const [first = 0, second = 0] = page.draw(50);
  assert.ok(0.8 > first && first > second && second > 0.4);
  page.draw(2_000);
  assert.equal(page.agent, 0);
});

test("both voices are shown where something is drawn by them, each by itself", (context) => {
  const page = new Page(context);
  page.start();
  page.voices.caller = 1;
  page.draw(400);
  for (const { style } of [page.orb, page.meter]) {
    assert.deepEqual([style.get("--caller-level"), style.get("--agent-level")], ["1.00", "0.00"]);
  }
});

test("with less motion, the level changes in coarse steps and stands between them", (context) => {
  const page = new Page(context);
  page.lessMotion.matches = true;
  page.start();
  const seen = page.draw(1_000);
  for (let syllable = 0; syllable < 40; syllable += 1) {
    page.voices.agent = syllable % 2 ? 0.1 : 0.7;
    seen.push(...page.draw(100));
  }
  assert.deepEqual([...new Set(seen)].sort(), [0, 0.75]);
  assert.ok(seen.lastIndexOf(0) < seen.indexOf(0.75), "a pause between words does not flicker");
  page.voices.agent = 0;
  page.draw(2_000);
  assert.equal(page.agent, 0);
});

test("less motion can be asked for, and given up, while a call runs", (context) => {
  const page = new Page(context);
  page.start();
  page.voices.agent = 0.3;
  page.draw(400);
  assert.equal(page.agent, 0.3);
  page.lessMotion.matches = true;
  page.draw(2_000);
  assert.equal(page.agent, 0.25);
  page.lessMotion.matches = false;
  page.draw(400);
  assert.equal(page.agent, 0.3);
});

test("after a long time out of sight, it shows what is heard now", (context) => {
  const page = new Page(context);
  page.start();
  page.voices.agent = 1;
  page.draw(400);
  page.now += 3_600_000;
  page.voices.agent = 0;
  page.draw(16);
  assert.equal(page.agent, 0);
});

test("when it is stopped the levels are down and nothing is drawn; a second start draws once", (context) => {
  const page = new Page(context);
  page.view.stop();
  page.start();
  page.start();
  page.voices.agent = 1;
  page.draw(400);
  page.view.stop();
  assert.equal(page.agent, 0);
  assert.equal(page.frames.size, 0);
});
