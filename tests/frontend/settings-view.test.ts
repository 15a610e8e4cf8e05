import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { SettingsView } from "../../sessions_app/frontend/settings-view";
import { FakeDocument, type FakeElement, replaceGlobals } from "./fake-document";
import { FakeStorage } from "./fakes";

const HEADSET = { id: "a", label: "Headset" };
const CAMERA = { id: "b", label: "Camera" };
const NOTHING = { microphones: [], speakers: [], microphone: "", speaker: "" };

/** A page with the settings of _settings.html, and what the visitor has changed in them. */
class Page extends FakeDocument {
  readonly changes: unknown[] = [];
  readonly settings: Record<string, FakeElement> = {};
  readonly hint = this.add("p", { id: "microphone-hint" });
  readonly pushToTalk = this.add("input", { id: "push-to-talk", type: "checkbox" });
  readonly sizes: Record<string, FakeElement> = {};
  readonly view: SettingsView;

  /** `early`: what the visitor does before the script is there. */
  constructor(
    context: TestContext,
    localStorage: Storage | null = new FakeStorage(),
    early: (page: Page) => void = () => {},
  ) {
    super(context);
    replaceGlobals(context, { window: { localStorage } });
    for (const what of ["microphone", "speaker"]) {
      const setting = this.add("div", { id: `${what}-setting` });
      this.settings[what] = this.add("select", { id: `${what}-choice` }, setting);
      this.add("option", { value: "" }, this.settings[what]);
    }
    const fieldset = this.add("fieldset", { id: "caption-size" });
    for (const value of ["small", "normal", "large"]) {
      this.sizes[value] = this.add("input", { type: "radio", name: "caption-size", value }, fieldset);
    }
    this.size("normal").checked = true;
    this.size("normal").defaultChecked = true;
    early(this);
    this.view = new SettingsView({
      onDevice: (what, id) => this.changes.push([what, id]),
      onPushToTalk: (isOn) => this.changes.push(["push to talk", isOn]),
      onCaptionSize: (size) => this.changes.push(["size", size]),
    });
  }

  picker(what: "microphone" | "speaker"): FakeElement {
    const picker = this.settings[what];
    assert.ok(picker);
    return picker;
  }

  size(value: string): FakeElement {
    const size = this.sizes[value];
    assert.ok(size);
    return size;
  }

  offered(what: "microphone" | "speaker"): string[] {
    return this.picker(what)
      .options.slice(1)
      .map(({ text }) => text);
  }
}

test("before the devices have names there is a hint, and no speaker to choose", (context) => {
  const page = new Page(context);
  page.view.showDevices(NOTHING);
  assert.equal(page.hint.hidden, false);
  assert.equal(page.picker("speaker").parent?.hidden, true);
  page.view.showDevices({ ...NOTHING, microphones: [HEADSET], speakers: [CAMERA] });
  assert.equal(page.hint.hidden, true);
  assert.equal(page.picker("speaker").parent?.hidden, false);
  assert.deepEqual(page.offered("microphone"), ["Headset"]);
});

test("the chosen device is shown as chosen, and a visitor's choice is told", (context) => {
  const page = new Page(context);
  page.view.showDevices({ ...NOTHING, microphones: [HEADSET, CAMERA], microphone: "b" });
  const picker = page.picker("microphone");
  assert.equal(picker.value, "b");
  picker.value = "a";
  page.fire("change", picker);
  assert.deepEqual(page.changes, [["microphone", "a"]]);
});

test("devices that come and go leave the others as they are, in the browser's order", (context) => {
  const page = new Page(context);
  page.view.showDevices({ ...NOTHING, microphones: [HEADSET, CAMERA], microphone: "b" });
  const camera = page.picker("microphone").options[2];
  const dock = { id: "c", label: "Dock" };
  page.view.showDevices({ ...NOTHING, microphones: [dock, CAMERA], microphone: "b" });
  assert.deepEqual(page.offered("microphone"), ["Dock", "Camera"]);
  assert.equal(page.picker("microphone").options[2], camera);
  assert.equal(page.picker("microphone").value, "b");
  const renamed = { id: "b", label: "Camera (2)" };
  page.view.showDevices({ ...NOTHING, microphones: [renamed, dock] });
  assert.deepEqual(page.offered("microphone"), ["Camera (2)", "Dock"]);
  assert.equal(page.picker("microphone").value, "");
});

test("a keyboard on the list of speakers is not lost with it", (context) => {
  const page = new Page(context);
  page.view.showDevices({ ...NOTHING, microphones: [HEADSET], speakers: [CAMERA] });
  page.picker("speaker").focus();
  page.view.showDevices({ ...NOTHING, microphones: [HEADSET] });
  assert.equal(page.activeElement, page.picker("microphone"));
});

test("push to talk and the captions' size are told, and remembered for the next visit", (context) => {
  const storage = new FakeStorage();
  const first = new Page(context, storage);
  assert.equal(first.view.pushToTalk, false);
  assert.equal(first.view.captionSize, "normal");
  first.pushToTalk.checked = true;
  first.fire("change", first.pushToTalk);
  first.size("large").checked = true;
  first.fire("change", first.size("large"));
  assert.deepEqual(first.changes, [
    ["push to talk", true],
    ["size", "large"],
  ]);

  const second = new Page(context, storage);
  assert.equal(second.view.pushToTalk, true);
  assert.equal(second.view.captionSize, "large");
  assert.deepEqual(second.changes, []);
  second.pushToTalk.checked = false;
  second.fire("change", second.pushToTalk);
  assert.equal(new Page(context, storage).view.pushToTalk, false);
});

test("what the visitor changes before the script is there is kept, and the rest is remembered", (context) => {
  const storage = new FakeStorage();
  storage.setItem("voicedemo.caption-size", "small");
  storage.setItem("voicedemo.push-to-talk", "on");
  const early = new Page(context, storage, (page) => {
    page.size("large").checked = true;
  });
  for (const { view } of [early, new Page(context, storage)]) {
    assert.equal(view.captionSize, "large");
    assert.equal(view.pushToTalk, true);
  }
  const unknown = new FakeStorage();
  new Page(context, unknown, ({ pushToTalk }) => {
    pushToTalk.checked = true;
  });
  assert.equal(new Page(context, unknown).view.pushToTalk, true);
});

test("a size that is not offered any more is the usual one", (context) => {
  const storage = new FakeStorage();
  storage.setItem("voicedemo.caption-size", "gigantic");
  assert.equal(new Page(context, storage).view.captionSize, "normal");
});

test("the settings work where nothing can be kept", (context) => {
  const full = new FakeStorage();
  full.room = 0;
  for (const storage of [null, full]) {
    const page = new Page(context, storage);
    page.pushToTalk.checked = true;
    page.fire("change", page.pushToTalk);
    assert.equal(page.view.pushToTalk, true);
    assert.deepEqual(page.changes, [["push to talk", true]]);
  }
});
