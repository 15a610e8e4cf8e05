import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Keys } from "../../sessions_app/frontend/push-to-talk";
import { FakeDocument, type FakeElement, type FakeEvent } from "./fake-document";

const SPACE = { key: " ", code: "Space" };
const M = { key: "m", code: "KeyM", altKey: true };
const H = { key: "h", code: "KeyH", altKey: true };

/** A page with the buttons of a call, and what its keys ask for. */
class Page extends FakeDocument {
  readonly main = this.add("main", { id: "talk" });
  readonly start = this.add("button", { id: "start" }, this.main);
  readonly mute = this.add("button", { id: "mute" }, this.main);
  readonly hangUp = this.add("button", { id: "hang-up" }, this.main);
  readonly talkKey = this.add("button", { id: "talk-key" }, this.main);
  readonly asked: unknown[] = [];
  readonly keys: Keys;
  isLive = false;
  now = 1_000;

  constructor(context: TestContext) {
    super(context);
    this.hangUp.hidden = true;
    this.keys = new Keys({
      isLive: () => this.isLive,
      onMute: (isMuted) => this.asked.push(isMuted ? "mute" : "unmute"),
      onToggleMute: () => this.asked.push("toggle"),
      onHangUp: () => this.asked.push("hang up"),
    });
  }

  /** What was asked for since the last time. */
  get news(): unknown[] {
    return this.asked.splice(0);
  }

  setLive(isLive: boolean): void {
    this.isLive = isLive;
    this.hangUp.hidden = !isLive;
    for (const told of this.observers) told();
  }

  press(key: Record<string, unknown>, target?: FakeElement): FakeEvent {
    return this.fire("keydown", target, key);
  }

  letGo(key: Record<string, unknown>, target?: FakeElement): FakeEvent {
    return this.fire("keyup", target, key);
  }

  pointer(type: "pointerdown" | "pointerup" | "pointercancel", more: Record<string, unknown> = {}): void {
    const where = type === "pointerdown" ? this.talkKey : this.body;
    this.fire(type, where, { button: 0, pointerId: 1, timeStamp: this.now, ...more });
  }

  click(): void {
    this.fire("click", this.talkKey, { timeStamp: this.now });
  }
}

/** In a call with push-to-talk on. */
function talking(context: TestContext): Page {
  const page = new Page(context);
  page.keys.setPushToTalk(true);
  page.setLive(true);
  assert.deepEqual(page.news, ["mute"]);
  return page;
}

test("who holds Space is heard, and nobody else", (context) => {
  const page = talking(context);
  assert.equal(page.press(SPACE).defaultPrevented, true, "or the page scrolls");
  assert.deepEqual(page.news, ["unmute"]);
  assert.equal(page.talkKey.ariaPressed, "true");
  assert.equal(page.press({ ...SPACE, repeat: true }).defaultPrevented, true);
  assert.deepEqual(page.news, []);
  page.letGo(SPACE);
  assert.deepEqual(page.news, ["mute"]);
  assert.equal(page.talkKey.ariaPressed, "false");
});

test("Space is Space without push-to-talk, without a call, and with another key", (context) => {
  const page = new Page(context);
  page.setLive(true);
  page.asked.length = 0;
  assert.equal(page.press(SPACE).defaultPrevented, false);
  page.keys.setPushToTalk(true);
  page.setLive(false);
  page.asked.length = 0;
  assert.equal(page.press(SPACE).defaultPrevented, false);
  page.setLive(true);
  page.asked.length = 0;
  for (const modifier of ["ctrlKey", "metaKey", "shiftKey", "altKey"]) {
    assert.equal(page.press({ ...SPACE, [modifier]: true }).defaultPrevented, false);
  }
  assert.deepEqual(page.news, []);
});

test("push-to-talk mutes as soon as it is turned on in a call, and unmutes when it is turned off", (context) => {
  const page = new Page(context);
  page.setLive(true);
  page.asked.length = 0;
  assert.equal(page.talkKey.hidden, true);
  page.keys.setPushToTalk(true);
  assert.equal(page.talkKey.hidden, false);
  assert.deepEqual(page.news, ["mute"]);
  page.keys.setPushToTalk(true);
  assert.deepEqual(page.news, []);
  page.keys.setPushToTalk(false);
  assert.deepEqual(page.news, ["unmute"]);
  assert.equal(page.talkKey.hidden, true);
});

test("what was chosen while the call was connecting counts when it is live", (context) => {
  const page = new Page(context);
  page.keys.setPushToTalk(true);
  assert.deepEqual(page.news, []);
  assert.equal(page.talkKey.hidden, true);
  page.setLive(true);
  assert.deepEqual(page.news, ["mute"]);
  assert.equal(page.talkKey.hidden, false);
});

test("a key whose end never comes does not leave the microphone open", (context) => {
  const page = talking(context);
  const ends: (() => void)[] = [
    () => page.fire("blur"),
    () => {
      page.hidden = true;
      page.fire("visibilitychange");
      page.hidden = false;
    },
    () => page.press({ key: "Meta", code: "MetaLeft", metaKey: true }),
    () => page.keys.setPushToTalk(false),
  ];
  for (const end of ends) {
    page.keys.setPushToTalk(true);
    page.press(SPACE);
    page.asked.length = 0;
    end();
    const [told] = page.news;
    assert.equal(told, end === ends.at(-1) ? "unmute" : "mute");
    page.letGo(SPACE);
    assert.deepEqual(page.news, []);
  }
});

test("a page that comes back into sight asks for nothing", (context) => {
  const page = talking(context);
  page.press(SPACE);
  page.asked.length = 0;
  page.fire("visibilitychange");
  assert.deepEqual(page.news, []);
});

test("a control that was reached by keyboard keeps its Space", (context) => {
  const page = talking(context);
  const details = page.add("details");
  const controls = [page.mute, page.add("input", { type: "checkbox" }), page.add("summary", {}, details)];
  page.press({ key: "Tab", code: "Tab" });
  for (const control of controls) {
    assert.equal(page.press(SPACE, control).defaultPrevented, false);
    assert.equal(page.letGo(SPACE, control).defaultPrevented, false);
  }
  assert.deepEqual(page.news, []);
  assert.equal(page.press(SPACE, details).defaultPrevented, true);
  assert.deepEqual(page.news, ["unmute"]);
});

test("a control that was clicked does not, and is not clicked again by it", (context) => {
  const page = talking(context);
  const box = page.add("input", { type: "checkbox" });
  page.fire("pointerdown", box);
  assert.equal(page.press(SPACE, box).defaultPrevented, true);
  assert.equal(page.letGo(SPACE, box).defaultPrevented, true);
  assert.deepEqual(page.news, ["unmute", "mute"]);
  page.press({ key: "Tab", code: "Tab" });
  assert.equal(page.press(SPACE, box).defaultPrevented, false);
});

test("a text is written with spaces, and a list opened by one", (context) => {
  const page = talking(context);
  for (const text of [
    page.add("select"),
    page.add("textarea"),
    page.add("input"),
    page.add("input", { type: "text" }),
    page.add("p", { contenteditable: "true" }),
  ]) {
    page.fire("pointerdown", text);
    assert.equal(page.press(SPACE, text).defaultPrevented, false);
  }
});

test("the button talks while it is held by pointer, wherever the pointer goes meanwhile", (context) => {
  const page = talking(context);
  page.pointer("pointerdown");
  assert.deepEqual(page.news, ["unmute"]);
  page.now += 500;
  page.pointer("pointerup", { pointerId: 2 });
  assert.deepEqual(page.news, []);
  page.pointer("pointerup");
  assert.deepEqual(page.news, ["mute"]);
  page.click();
  assert.deepEqual(page.news, []);
});

test("a touch that the system takes away, and another button of the mouse, do not talk", (context) => {
  const page = talking(context);
  page.pointer("pointerdown");
  page.pointer("pointercancel");
  assert.deepEqual(page.news, ["unmute", "mute"]);
  page.pointer("pointerdown", { button: 2 });
  assert.deepEqual(page.news, []);
  assert.equal(page.fire("contextmenu", page.talkKey).defaultPrevented, true);
});

test("the button talks while it is held by Space or Enter", (context) => {
  const page = talking(context);
  for (const key of [SPACE, { key: "Enter", code: "Enter" }]) {
    assert.equal(page.press(key, page.talkKey).defaultPrevented, true);
    assert.equal(page.press({ ...key, repeat: true }, page.talkKey).defaultPrevented, true);
    assert.deepEqual(page.news, ["unmute"]);
    assert.equal(page.letGo(key, page.talkKey).defaultPrevented, true);
    assert.deepEqual(page.news, ["mute"]);
  }
  assert.equal(page.press({ key: "Enter", code: "Enter" }, page.mute).defaultPrevented, false);
});

test("a click of assistive technology talks until the next one", (context) => {
  const page = talking(context);
  page.click();
  assert.deepEqual(page.news, ["unmute"]);
  assert.equal(page.talkKey.ariaPressed, "true");
  page.now += 5_000;
  page.click();
  assert.deepEqual(page.news, ["mute"]);
});

test("so does one that comes as a press too short for a finger", (context) => {
  const page = talking(context);
  const press = () => {
    page.now += 5_000;
    page.pointer("pointerdown");
    page.now += 1;
    page.pointer("pointerup");
    page.click();
  };
  press();
  assert.deepEqual(page.news, ["unmute"]);
  press();
  assert.deepEqual(page.news, ["mute"]);
  press();
  assert.deepEqual(page.news, ["unmute"]);
  page.press(SPACE);
  page.letGo(SPACE);
  assert.deepEqual(page.news, ["mute"], "who takes the key has it");
});

test("a call that ends while a key is held leaves nothing to the next", (context) => {
  const page = talking(context);
  page.press(SPACE);
  page.asked.length = 0;
  page.setLive(false);
  page.letGo(SPACE);
  assert.deepEqual(page.news, []);
  page.setLive(true);
  assert.deepEqual(page.news, ["mute"]);
  assert.equal(page.talkKey.ariaPressed, "false");
});

test("the focus goes to the button that talks when the page has put it on the one that hangs up", (context) => {
  const page = new Page(context);
  page.keys.setPushToTalk(true);
  page.hangUp.focus();
  page.setLive(true);
  assert.equal(page.activeElement, page.talkKey);
  page.setLive(false);
  assert.equal(page.activeElement, page.start, "it is not lost with the button");
});

test("the focus stays where it is otherwise", (context) => {
  const page = new Page(context);
  page.hangUp.focus();
  page.setLive(true);
  assert.equal(page.activeElement, page.hangUp);
  page.keys.setPushToTalk(true);
  assert.equal(page.activeElement, page.hangUp);
  page.talkKey.focus();
  page.keys.setPushToTalk(false);
  assert.equal(page.activeElement, page.mute);
});

test("Alt+M mutes and unmutes, once for each press, and only in a call", (context) => {
  const page = new Page(context);
  assert.equal(page.press(M).defaultPrevented, false);
  page.setLive(true);
  page.asked.length = 0;
  assert.equal(page.press(M).defaultPrevented, true);
  assert.equal(page.press({ ...M, repeat: true }).defaultPrevented, true);
  assert.deepEqual(page.news, ["toggle"]);
});

test("Alt+H hangs up as long as there is something to hang up", (context) => {
  const page = new Page(context);
  assert.equal(page.press(H).defaultPrevented, false);
  page.hangUp.hidden = false; // it is connecting
  assert.equal(page.press(H).defaultPrevented, true);
  assert.deepEqual(page.news, ["hang up"]);
});

test("the letter counts; its place where Alt or the script makes it another one", (context) => {
  const page = new Page(context);
  page.setLive(true);
  page.asked.length = 0;
  const isTaken = (key: string, code: string) => page.press({ key, code, altKey: true }).defaultPrevented;
  assert.equal(isTaken("M", "KeyM"), true, "with Caps Lock");
  assert.equal(isTaken("µ", "KeyM"), true, "macOS");
  assert.equal(isTaken("ь", "KeyM"), true, "Cyrillic");
  assert.equal(isTaken("m", "Semicolon"), true, "AZERTY");
  assert.equal(isTaken(",", "KeyM"), false, "AZERTY's comma");
  assert.equal(isTaken("n", "KeyN"), false);
});

test("the keys of screen readers and of the system are not taken", (context) => {
  const page = new Page(context);
  page.setLive(true);
  page.asked.length = 0;
  for (const modifier of ["ctrlKey", "metaKey", "shiftKey"]) {
    assert.equal(page.press({ ...M, [modifier]: true }).defaultPrevented, false);
  }
  assert.equal(page.press({ key: "m", code: "KeyM" }).defaultPrevented, false);
  assert.deepEqual(page.news, []);
});

test("the buttons tell their keys", (context) => {
  const page = new Page(context);
  const keys = [page.mute, page.hangUp, page.talkKey].map(
    ({ attributes }) => attributes["aria-keyshortcuts"],
  );
  assert.deepEqual(keys, ["Alt+M", "Alt+H", "Space"]);
});
