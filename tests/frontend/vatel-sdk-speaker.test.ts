import assert from "node:assert/strict";
import { test } from "node:test";
import { Call, FakeElement, FakeVoice } from "./vatel-sdk-room";

test("the speaker is chosen before, in and between calls", async (context) => {
  FakeElement.speakers = ["", "headset", "boxes"];
  context.after(() => {
    FakeElement.speakers = [""];
  });
  const call = new Call();
  await call.session.setSpeaker("headset");
  const room = await call.begin();
  const voice = new FakeVoice();
  room.speak(voice);
  assert.equal(voice.element.sinkId, "headset");
  await call.session.setSpeaker("boxes");
  assert.equal(voice.element.sinkId, "boxes");
  await call.session.disconnect();
  assert.equal(voice.element.sinkId, "", "LiveKit uses the element again");
  assert.equal((await call.begin()).speaker, "boxes");
  await call.session.setSpeaker("");
  assert.equal(call.room.speaker, "");
});

test("a speaker that is not there is refused with the browser's error, and the one before stays", async (context) => {
  FakeElement.speakers = ["", "headset"];
  context.after(() => {
    FakeElement.speakers = [""];
  });
  const call = new Call();
  await assert.rejects(call.session.setSpeaker("gone"), { name: "NotFoundError" });
  const room = await call.begin();
  const voice = new FakeVoice();
  room.speak(voice);
  await call.session.setSpeaker("headset");
  await assert.rejects(call.session.setSpeaker("gone"), { name: "NotFoundError" });
  assert.equal(voice.element.sinkId, "headset");
  assert.equal(room.speaker, "headset");
});

test("a browser that cannot choose a speaker has the system's only", async (context) => {
  const { setSinkId } = FakeElement.prototype;
  context.after(() => Object.assign(FakeElement.prototype, { setSinkId }));
  Reflect.deleteProperty(FakeElement.prototype, "setSinkId");
  const call = new Call();
  await call.begin();
  await call.session.setSpeaker("");
  await assert.rejects(call.session.setSpeaker("headset"), { name: "NotSupportedError" });
});
