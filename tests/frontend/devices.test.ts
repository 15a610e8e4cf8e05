import assert from "node:assert/strict";
import { test } from "node:test";
import { type DeviceEvent, type DeviceList, Devices } from "../../sessions_app/frontend/devices";
import { FakeStorage, settled } from "./fakes";

type Info = Pick<MediaDeviceInfo, "kind" | "deviceId" | "label">;

const microphone = (deviceId: string, label = `Microphone ${deviceId}`): Info => ({
  kind: "audioinput",
  deviceId,
  label,
});
const speaker = (deviceId: string, label = `Speaker ${deviceId}`): Info => ({
  kind: "audiooutput",
  deviceId,
  label,
});
/** As browsers list them without permission. */
const NAMELESS = [microphone("", ""), speaker("", "")];

/** A browser with devices that come and go, and a page that listens to what is told of them. */
class Desk extends EventTarget {
  infos: Info[];
  isLive = false;
  refusal: Error | undefined;
  enumerations = 0;
  events: DeviceEvent[] = [];
  readonly devices: Devices;

  constructor(infos: Info[], storage: Storage | null = new FakeStorage(), canChooseSpeaker = true) {
    super();
    this.infos = infos;
    this.devices = new Devices({
      media: this as unknown as MediaDevices,
      storage,
      canChooseSpeaker,
      isLive: () => this.isLive,
      emit: (event) => this.events.push(event),
    });
  }

  async enumerateDevices(): Promise<Info[]> {
    this.enumerations += 1;
    const { infos, refusal } = this;
    await settled();
    if (refusal) throw refusal;
    return infos;
  }

  /** Devices are plugged in or out. */
  async change(...infos: Info[]): Promise<void> {
    this.infos = infos;
    this.dispatchEvent(new Event("devicechange"));
    await this.devices.refresh();
  }

  get lists(): DeviceList[] {
    return this.events.flatMap((event) => (event.kind === "list" ? [event.list] : []));
  }

  /** What was told beside the lists. */
  get news(): unknown[] {
    return this.events.flatMap((event) =>
      event.kind === "list"
        ? []
        : [[event.kind, event.what, event.kind === "gone" ? event.label : event.device.id]],
    );
  }
}

async function desk(...infos: Info[]): Promise<Desk> {
  const there = new Desk(infos);
  await there.devices.refresh();
  return there;
}

test("nothing can be chosen before the browser names the devices, and all of them after", async () => {
  const there = await desk(...NAMELESS);
  assert.deepEqual(there.lists, [{ microphones: [], speakers: [], microphone: "", speaker: "" }]);
  there.infos = [microphone("a"), speaker("x")];
  await there.devices.refresh();
  assert.deepEqual(there.lists.at(-1), {
    microphones: [{ id: "a", label: "Microphone a" }],
    speakers: [{ id: "x", label: "Speaker x" }],
    microphone: "",
    speaker: "",
  });
});

test("each device is listed once, under a name that tells it from the others", async () => {
  const there = await desk(
    microphone("default", "Default - Headset (046d:0a44)"),
    microphone("communications", "Communications - Headset (046d:0a44)"),
    microphone("a", "Headset (046d:0a44)"),
    microphone("b", "Headset (046d:0a44)"),
    microphone("c", ""),
  );
  assert.deepEqual(there.lists.at(-1)?.microphones, [
    { id: "a", label: "Headset" },
    { id: "b", label: "Headset (2)" },
    { id: "c", label: "Unnamed microphone" },
  ]);
});

test("a choice is used, told and remembered; the system's choice forgets it", async () => {
  const storage = new FakeStorage();
  const infos = [microphone("a"), microphone("b"), speaker("x")];
  const first = new Desk(infos, storage);
  await first.devices.refresh();
  first.devices.choose("microphone", "b");
  first.devices.choose("speaker", "x");
  assert.deepEqual([first.devices.microphone, first.devices.speaker], ["b", "x"]);
  assert.deepEqual([first.lists.at(-1)?.microphone, first.lists.at(-1)?.speaker], ["b", "x"]);

  const second = new Desk(infos, storage);
  assert.deepEqual([second.devices.microphone, second.devices.speaker], ["b", "x"]);
  await second.devices.refresh();
  assert.equal(second.lists.at(-1)?.microphone, "b");
  second.devices.choose("microphone", "");

  const third = new Desk(infos, storage);
  assert.deepEqual([third.devices.microphone, third.devices.speaker], ["", "x"]);
});

test("a remembered device is known by its label when its id has changed, and by its new id from then on", async () => {
  const storage = new FakeStorage();
  const before = new Desk([microphone("a"), microphone("b", "Headset")], storage);
  await before.devices.refresh();
  before.devices.choose("microphone", "b");

  const after = new Desk([microphone("a"), microphone("b2", "Headset")], storage);
  assert.equal(after.devices.microphone, "b");
  await after.devices.refresh();
  assert.equal(after.devices.microphone, "b2");
  assert.equal(after.lists.at(-1)?.microphone, "b2");
  assert.equal(new Desk(NAMELESS, storage).devices.microphone, "b2");
});

test("a remembered device that is away gives way to the system's, and is used when it is back", async () => {
  const storage = new FakeStorage();
  const before = new Desk([microphone("a"), microphone("b")], storage);
  await before.devices.refresh();
  before.devices.choose("microphone", "b");

  const after = new Desk([microphone("a")], storage);
  await after.devices.refresh();
  assert.equal(after.devices.microphone, "");
  await after.change(microphone("a"), microphone("b"));
  assert.equal(after.devices.microphone, "b");
  assert.equal(after.lists.at(-1)?.microphone, "b");
  assert.deepEqual(after.news, []);
});

test("in a call, a new device is offered and not taken", async () => {
  const there = await desk(microphone("a"), speaker("x"));
  there.isLive = true;
  await there.change(microphone("default"), microphone("a"), microphone("b"), speaker("x"), speaker("y"));
  assert.deepEqual(there.news, [
    ["offered", "microphone", "b"],
    ["offered", "speaker", "y"],
  ]);
  assert.deepEqual([there.devices.microphone, there.devices.speaker], ["", ""]);
  await there.change(...there.infos);
  assert.equal(there.news.length, 2);
});

test("in a call, a chosen device that goes is told, and offered when it comes back", async () => {
  const there = await desk(microphone("a"), microphone("b"), microphone("c"));
  there.devices.choose("microphone", "b");
  there.isLive = true;
  await there.change(microphone("a"), microphone("c"));
  assert.deepEqual(there.news, [["gone", "microphone", "Microphone b"]]);
  assert.equal(there.devices.microphone, "");
  assert.equal(there.lists.at(-1)?.microphone, "");
  await there.change(microphone("a"), microphone("d"), microphone("b"), microphone("c"));
  assert.deepEqual(there.news.slice(1), [["offered", "microphone", "b"]]);
  assert.equal(there.devices.microphone, "");

  there.isLive = false;
  assert.equal(there.devices.microphone, "b", "the next call begins with it");
});

test("in a call, another device of the same name does not take the place of the chosen one", async () => {
  const there = await desk(microphone("a", "Headset"), microphone("b", "Headset"));
  there.devices.choose("microphone", "a");
  there.isLive = true;
  await there.change(microphone("b", "Headset"));
  assert.deepEqual(there.news, [["gone", "microphone", "Headset"]]);
  assert.equal(there.devices.microphone, "");
});

test("a device that goes and was not chosen is no news", async () => {
  const there = await desk(microphone("a"), microphone("b"));
  there.isLive = true;
  await there.change(microphone("a"));
  assert.deepEqual(there.news, []);
  assert.equal(there.lists.at(-1)?.microphones.length, 1);
});

test("what is known when the browser first names the devices in a call is not new", async () => {
  const there = await desk(...NAMELESS);
  there.isLive = true;
  await there.change(microphone("a"), microphone("b"));
  assert.deepEqual(there.news, []);
});

test("a storm of changes is read once at a time, and told once", async () => {
  const there = await desk(microphone("a"));
  const { enumerations } = there;
  there.isLive = true;
  there.events = [];
  there.infos = [microphone("a"), microphone("b")];
  for (let change = 0; change < 100; change += 1) there.dispatchEvent(new Event("devicechange"));
  await there.devices.refresh();
  assert.equal(there.enumerations - enumerations, 2);
  assert.deepEqual(there.news, [["offered", "microphone", "b"]]);
  assert.equal(there.lists.length, 1);
});

test("a device that left before it could be chosen is not chosen, and the picker hears what is", async () => {
  const there = await desk(microphone("a"), microphone("b"));
  there.devices.choose("microphone", "a");
  await there.change(microphone("a"));
  there.events = [];
  there.devices.choose("microphone", "b");
  assert.equal(there.devices.microphone, "a");
  assert.equal(there.lists.at(-1)?.microphone, "a");
});

test("no speaker can be chosen where the browser has no way to use it", async () => {
  const storage = new FakeStorage();
  storage.setItem("voicedemo.speaker", JSON.stringify({ id: "x", label: "Speaker x" }));
  const there = new Desk([microphone("a"), speaker("x")], storage, false);
  await there.devices.refresh();
  assert.equal(there.devices.speaker, "");
  assert.deepEqual(there.lists.at(-1)?.speakers, []);
});

test("a choice holds for the visit where nothing can be kept", async () => {
  const full = new FakeStorage();
  full.room = 0;
  for (const storage of [null, full]) {
    const there = new Desk([microphone("a")], storage);
    await there.devices.refresh();
    there.devices.choose("microphone", "a");
    await there.change(microphone("a"), microphone("b"));
    assert.equal(there.devices.microphone, "a");
  }
});

test("what others have put in the storage is no choice", () => {
  for (const nonsense of ["", "b", "null", "[]", '{"id":7,"label":"x"}', '{"id":"","label":"x"}', "{"]) {
    const storage = new FakeStorage();
    storage.setItem("voicedemo.microphone", nonsense);
    assert.equal(new Desk([], storage).devices.microphone, "");
  }
});

test("a browser that stops listing devices leaves the last list standing", async () => {
  const there = await desk(microphone("a"));
  there.devices.choose("microphone", "a");
  there.refusal = new DOMException("gone", "InvalidStateError");
  await there.change();
  assert.equal(there.devices.microphone, "a");
  assert.equal(there.lists.at(-1)?.microphones.length, 1);
});

test("a page without media devices has nothing to choose", async () => {
  const events: DeviceEvent[] = [];
  const devices = new Devices({
    media: undefined,
    storage: null,
    isLive: () => false,
    emit: (event) => events.push(event),
  });
  await devices.refresh();
  assert.deepEqual([devices.microphone, devices.speaker], ["", ""]);
  assert.deepEqual(events, [
    { kind: "list", list: { microphones: [], speakers: [], microphone: "", speaker: "" } },
  ]);
});
