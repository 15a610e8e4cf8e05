import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { heardTurn, LEAD_MS, playFrom } from "../../sessions_app/frontend/heard-turn";
import { attachPlayer } from "../../sessions_app/frontend/recording-player";
import { replaceGlobals } from "./fake-document";

const ZERO = 1400;
const TURNS = [1700, 6000, 6300, 20_000];

test("a turn is played from a little before it, and is then the one that is heard", () => {
  assert.equal(playFrom(6000, ZERO), (6000 - ZERO - LEAD_MS) / 1000);
  assert.equal(playFrom(1700, ZERO), 0, "nothing is before the recording");
  for (const [index, atMs] of TURNS.entries())
    assert.equal(heardTurn(TURNS, ZERO, playFrom(atMs, ZERO)), index);
});

test("what is heard is the last turn that has begun", () => {
  const heard = [0, 2, 4.09, 4.2, 4.41, 18, 18.11, 4000].map((second) => heardTurn(TURNS, ZERO, second));
  assert.deepEqual(heard, [0, 0, 1, 1, 2, 2, 3, 3]);
  assert.equal(heardTurn([5000], ZERO, 1), -1);
  assert.equal(heardTurn([], ZERO, 1), -1);
});

class Line {
  readonly classes = new Set<string>();
  readonly classList = {
    add: (name: string) => this.classes.add(name),
    remove: (name: string) => this.classes.delete(name),
  };
  readonly attributes = new Map<string, string>();
  readonly dataset: { atMs: string };
  readonly isConnected = true;
  isInSight = true;
  scrolls = 0;

  constructor(atMs: number) {
    this.dataset = { atMs: String(atMs) };
  }

  setAttribute(name: string, value: string): void {
    this.attributes.set(name, value);
  }

  removeAttribute(name: string): void {
    this.attributes.delete(name);
  }

  getBoundingClientRect(): { top: number; bottom: number } {
    return this.isInSight ? { top: 100, bottom: 140 } : { top: 900, bottom: 940 };
  }

  scrollIntoView(): void {
    this.scrolls += 1;
  }
}

/** A page with a player, as far as its script looks. */
class PlayerPage {
  readonly lines = TURNS.map((atMs) => new Line(atMs));
  readonly audio = {
    src: "/recording/",
    paused: true,
    seeking: false,
    currentTime: 0,
    loads: 0,
    play: async () => {
      this.audio.paused = false;
    },
    load: () => {
      this.audio.loads += 1;
    },
  };
  readonly trouble = { textContent: "", hidden: true };
  readonly watched = { isOn: false, tell: (_isInSight: boolean) => {} };
  readonly floating = new Set<string>();
  hasPlayer = true;
  #click: ((event: { target: unknown }) => void) | undefined;
  readonly #listeners: [string, (event: { target: unknown }) => void][] = [];

  constructor(
    context: TestContext,
    answer: () => Promise<Response> = () => assert.fail("nothing is fetched"),
  ) {
    const { watched, floating } = this;
    const section = {
      classList: {
        toggle: (name: string, on: boolean) => (on ? floating.add(name) : floating.delete(name)),
        remove: (name: string) => floating.delete(name),
      },
      dataset: { zeroMs: String(ZERO) },
      querySelector: (selector: string) => (selector === "audio" ? this.audio : this.trouble),
    };
    class FakeTarget {
      readonly line: Line;

      constructor(line: Line) {
        this.line = line;
      }

      closest(selector: string): unknown {
        return selector === "button.play" ? this : this.line;
      }
    }
    this.#target = (line) => new FakeTarget(line);
    replaceGlobals(context, {
      Element: FakeTarget,
      innerHeight: 800,
      IntersectionObserver: class {
        constructor(tell: (entries: { target: unknown; isIntersecting: boolean }[]) => void) {
          watched.tell = (isIntersecting) => tell([{ target: section, isIntersecting }]);
        }

        observe(): void {
          watched.isOn = true;
        }

        disconnect(): void {
          watched.isOn = false;
        }
      },
      fetch: answer,
      document: {
        querySelector: () => (this.hasPlayer ? section : null),
        addEventListener: (type: string, listener: (event: { target: unknown }) => void) =>
          this.#listeners.push([type, listener]),
      },
    });
    const list = {
      addEventListener: (_: string, listener: (event: { target: unknown }) => void) => {
        this.#click = listener;
      },
      querySelectorAll: () => this.lines,
    };
    attachPlayer(list as unknown as HTMLOListElement);
  }

  readonly #target: (line: Line) => unknown;

  press(index: number): void {
    this.#click?.({ target: this.#target(this.line(index)) });
  }

  line(index: number): Line {
    return this.lines[index] ?? assert.fail("no such line");
  }

  happens(type: string, target: unknown = this.audio): void {
    for (const [name, listener] of this.#listeners) if (name === type) listener({ target });
  }

  playsAt(second: number): void {
    Object.assign(this.audio, { paused: false, currentTime: second });
    this.happens("timeupdate");
  }

  get marked(): number[] {
    return this.lines.flatMap(({ classes, attributes }, index) => {
      assert.equal(classes.has("is-heard"), attributes.get("aria-current") === "true");
      return classes.has("is-heard") ? [index] : [];
    });
  }
}

test("while it plays, the turn that is heard is marked, and no other", (context) => {
  const page = new PlayerPage(context);
  const marked = [1, 4.2, 4.5, 19].map((second) => {
    page.playsAt(second);
    return page.marked;
  });
  assert.deepEqual(marked, [[0], [1], [2], [3]]);
  page.happens("ended");
  assert.deepEqual(page.marked, []);
});

test("a paused player marks nothing anew, unless the reader seeks in it", (context) => {
  const page = new PlayerPage(context);
  page.playsAt(1);
  page.audio.paused = true;
  page.audio.currentTime = 19;
  page.happens("timeupdate");
  assert.deepEqual(page.marked, [0]);
  page.audio.seeking = true;
  page.happens("seeking");
  assert.deepEqual(page.marked, [3]);
});

test("a turn's button plays from there", (context) => {
  const page = new PlayerPage(context);
  page.press(3);
  assert.equal(page.audio.currentTime, playFrom(20_000, ZERO));
  assert.equal(page.audio.paused, false);
  assert.deepEqual(page.marked, [3]);
});

test("the page scrolls for a reader who follows, and for no other", (context) => {
  const page = new PlayerPage(context);
  page.playsAt(1);
  assert.equal(page.line(0).scrolls, 0, "nothing was followed before");
  page.playsAt(4.2);
  assert.equal(page.line(1).scrolls, 1);
  page.line(1).isInSight = false;
  page.playsAt(19);
  assert.deepEqual([page.marked, page.line(3).scrolls], [[3], 0]);
});

test("a player whose place is out of sight floats until it ends", (context) => {
  const page = new PlayerPage(context);
  assert.equal(page.watched.isOn, false, "one that nobody plays stays where it is");
  page.happens("playing");
  assert.equal(page.watched.isOn, true);
  page.watched.tell(false);
  assert.deepEqual([...page.floating], ["is-floating"]);
  page.watched.tell(true);
  assert.deepEqual([...page.floating], []);
  page.watched.tell(false);
  page.happens("ended");
  assert.deepEqual([[...page.floating], page.watched.isOn], [[], false]);
});

test("a page without a player, and other players, are left alone", (context) => {
  const page = new PlayerPage(context);
  page.happens("timeupdate", { currentTime: 19 });
  page.hasPlayer = false;
  page.press(3);
  page.playsAt(19);
  assert.deepEqual(page.marked, []);
});

for (const [what, answer, words] of [
  ["says it", () => new Response("The platform is too busy to answer.", { status: 503 }), /too busy/],
  ["does not allow it", () => new Response("", { status: 403 }), /no longer listen/],
  ["has no sentence", () => new Response("<html>", { status: 500, headers: html() }), /cannot be played now/],
  ["plays it", () => new Response("R", { status: 206 }), /try again/],
  ["cannot be reached", () => assert.fail("offline"), /cannot be reached/],
] satisfies [string, () => Response, RegExp][]) {
  test(`a player that fails tells why, where the site ${what}, and can be used again`, async (context) => {
    const page = new PlayerPage(context, async () => answer());
    page.happens("error");
    await new Promise(setImmediate);
    assert.match(page.trouble.textContent, words);
    assert.equal(page.trouble.hidden, false);
    assert.equal(page.audio.loads, 1);
    page.happens("playing");
    assert.equal(page.trouble.hidden, true);
  });
}

function html(): Record<string, string> {
  return { "Content-Type": "text/html" };
}
