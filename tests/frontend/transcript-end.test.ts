import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { TranscriptEnd } from "../../sessions_app/frontend/transcript-end";
import { replaceGlobals } from "./fake-document";

/** A window of 800 px, and a list whose end is so far below the window's top. */
class Page {
  bottom: number;
  readonly button = { hidden: true, textContent: "", click: () => {} };
  readonly end: TranscriptEnd;
  #scrolled = () => {};

  constructor(context: TestContext, bottom: number) {
    this.bottom = bottom;
    replaceGlobals(context, {
      innerHeight: 800,
      addEventListener: (_: string, listener: () => void) => {
        this.#scrolled = listener;
      },
      scrollBy: ({ top }: { top: number }) => this.scroll(top),
    });
    const list = { getBoundingClientRect: () => ({ bottom: this.bottom }) };
    const button = Object.assign(this.button, {
      addEventListener: (_: string, listener: () => void) => {
        this.button.click = listener;
      },
    });
    this.end = new TranscriptEnd(list as HTMLElement, button as unknown as HTMLButtonElement);
  }

  scroll(top: number): void {
    this.bottom -= top;
    this.#scrolled();
  }

  /** Lines come, this much higher altogether, `turns` of them turns. */
  grow(height: number, turns: number): void {
    this.end.follow(() => {
      this.bottom += height;
      return turns;
    });
  }

  get isEndInSight(): boolean {
    return this.bottom <= 800;
  }
}

test("whoever is at the end stays there, and is told nothing", (context) => {
  const page = new Page(context, 790);
  for (let lines = 0; lines < 5; lines += 1) page.grow(300, 1);
  assert.equal(page.isEndInSight, true);
  assert.equal(page.button.hidden, true);
});

test("whoever reads further up is not moved, and told how many turns have come", (context) => {
  const page = new Page(context, 3000);
  page.grow(30, 0);
  assert.deepEqual([page.button.hidden, page.button.textContent], [false, "New lines below"]);
  page.grow(100, 1);
  assert.equal(page.button.textContent, "1 new turn");
  page.grow(200, 2);
  assert.equal(page.button.textContent, "3 new turns");
  assert.equal(page.bottom, 3330);
});

test("the button leads to the end, and the counting begins anew", (context) => {
  const page = new Page(context, 3000);
  page.grow(100, 2);
  page.button.click();
  assert.equal(page.isEndInSight, true);
  assert.equal(page.button.hidden, true);
  page.scroll(-2000);
  page.grow(100, 1);
  assert.equal(page.button.textContent, "1 new turn");
});

test("whoever scrolls to the end has seen what was new", (context) => {
  const page = new Page(context, 3000);
  page.grow(100, 2);
  page.scroll(1000);
  assert.equal(page.button.hidden, false);
  page.scroll(1300);
  assert.equal(page.button.hidden, true);
});

test("a short transcript is not moved", (context) => {
  const page = new Page(context, 300);
  page.grow(100, 1);
  assert.equal(page.bottom, 400);
  assert.equal(page.button.hidden, true);
});
