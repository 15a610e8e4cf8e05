import assert from "node:assert/strict";
import { test } from "node:test";
import type { LocalAudioTrack } from "livekit-client";
import { HARDWARE_MUTE_MS, TAKEOVER_MS } from "../../sessions_app/frontend/vatel-sdk/microphone";
import { browserGives, FakeMedia } from "./vatel-sdk-media";
import { Call, type FakeSender, settled } from "./vatel-sdk-room";

const CAPTURE = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
const TIMERS = { apis: ["setTimeout" as const] };

function published(call: Call): LocalAudioTrack {
  assert.equal(call.room.published.length, 1);
  return call.room.published[0] as LocalAudioTrack;
}

test("a granted track is published, muted and unmuted, and stopped by the hang-up", async () => {
  const call = new Call();
  await call.begin();
  const media = new FakeMedia();
  await call.session.setMicrophoneTrack(media.asTrack());
  assert.equal(published(call).mediaStreamTrack, media.asTrack());
  await call.session.setMicrophoneEnabled(false);
  assert.equal(media.enabled, false);
  await call.session.setMicrophoneEnabled(true);
  assert.equal(media.enabled, true);
  assert.deepEqual(call.heard, []);
  await call.session.disconnect();
  assert.equal(media.readyState, "ended");
  assert.deepEqual(call.types(), ["disconnected"]);
});

test("without a given track the browser is asked, once for two calls at the same time", async (context) => {
  const media = new FakeMedia();
  const asked = browserGives(context, media);
  const call = new Call();
  await call.begin();
  await Promise.all([call.session.setMicrophoneEnabled(true), call.session.setMicrophoneEnabled(true)]);
  assert.equal(published(call).mediaStreamTrack, media.asTrack());
  assert.deepEqual(asked, [{ audio: CAPTURE }]);
});

test("on and off at the same time ends off", async (context) => {
  const media = new FakeMedia();
  browserGives(context, media);
  const call = new Call();
  await call.begin();
  await Promise.all([call.session.setMicrophoneEnabled(true), call.session.setMicrophoneEnabled(false)]);
  assert.equal(published(call).isMuted, true);
});

test("off and on at the same time ends on", async () => {
  const call = new Call();
  await call.begin();
  const media = new FakeMedia();
  await call.session.setMicrophoneTrack(media.asTrack());
  await Promise.all([call.session.setMicrophoneEnabled(false), call.session.setMicrophoneEnabled(true)]);
  assert.equal(media.enabled, true);
  assert.equal(published(call).isMuted, false);
});

test("a page that mutes first is published muted", async () => {
  const call = new Call();
  await call.begin();
  await call.session.setMicrophoneEnabled(false);
  await call.session.setMicrophoneTrack(new FakeMedia().asTrack());
  assert.equal(published(call).isMuted, true);
});

test("a refused microphone rejects with the browser's error, and can be asked for again", async (context) => {
  const refusal = new DOMException("Permission denied", "NotAllowedError");
  browserGives(context, refusal, new FakeMedia());
  const call = new Call();
  await call.begin();
  await assert.rejects(call.session.setMicrophoneEnabled(true), { name: "NotAllowedError" });
  await call.session.setMicrophoneEnabled(true);
  published(call);
});

test("a microphone that is granted after the hang-up is let go, and the promise settles before", async (context) => {
  let grant!: (media: FakeMedia) => void;
  const prompt = new Promise<FakeMedia>((resolve) => {
    grant = resolve;
  });
  browserGives(context, prompt);
  const call = new Call();
  await call.begin();
  const enabling = assert.rejects(call.session.setMicrophoneEnabled(true), { name: "NotConnectedError" });
  await settled();
  await call.session.disconnect();
  await enabling;
  const media = new FakeMedia();
  grant(media);
  await settled();
  assert.equal(media.readyState, "ended");
  assert.deepEqual(call.room.published, []);
});

test("a track is let go if it cannot be published, and if there is no call", async () => {
  const call = new Call();
  const early = new FakeMedia();
  await assert.rejects(call.session.setMicrophoneTrack(early.asTrack()), { name: "NotConnectedError" });
  assert.equal(early.readyState, "ended");
  const room = await call.begin();
  room.publishError = new Error("insufficient permissions");
  const refused = new FakeMedia();
  await assert.rejects(call.session.setMicrophoneTrack(refused.asTrack()), /insufficient permissions/);
  assert.equal(refused.readyState, "ended");
});

test("a track is let go if the call ends while it is being published", async () => {
  const call = new Call();
  const room = await call.begin();
  let publish!: () => void;
  room.localParticipant.publishTrack = () =>
    new Promise((resolve) => {
      publish = resolve;
    });
  const media = new FakeMedia();
  const publishing = assert.rejects(call.session.setMicrophoneTrack(media.asTrack()), {
    name: "NotConnectedError",
  });
  await settled();
  await call.session.disconnect();
  await publishing;
  publish();
  await settled();
  assert.equal(media.readyState, "ended");
});

test("a device that ends is told as lost once, and as restored when another one takes over", async (context) => {
  const spare = new FakeMedia();
  browserGives(context, spare);
  const call = new Call();
  await call.begin();
  const media = new FakeMedia();
  await call.session.setMicrophoneTrack(media.asTrack());
  const track = published(call);
  await settled();
  media.end();
  // What LiveKit does when it finds no other device: it mutes.
  await track.mute();
  assert.deepEqual(call.types(), ["microphone_lost"]);
  await call.session.setMicrophoneEnabled(true);
  assert.equal(track.mediaStreamTrack, spare.asTrack());
  assert.deepEqual(call.types(), ["microphone_lost", "microphone_restored"]);
});

test("a mute that is not ours is a loss; our own is not", async () => {
  const call = new Call();
  await call.begin();
  await call.session.setMicrophoneTrack(new FakeMedia().asTrack());
  const track = published(call);
  await call.session.setMicrophoneEnabled(false);
  await call.session.setMicrophoneEnabled(true);
  assert.deepEqual(call.heard, []);
  await track.mute();
  assert.deepEqual(call.types(), ["microphone_lost"]);
  await call.session.setMicrophoneEnabled(true);
  assert.deepEqual(call.types(), ["microphone_lost", "microphone_restored"]);
});

test("the mute of one call does not reach into the next", async () => {
  const call = new Call();
  await call.begin();
  await call.session.setMicrophoneEnabled(false);
  await call.session.disconnect();
  await call.begin();
  await call.session.setMicrophoneTrack(new FakeMedia().asTrack());
  assert.equal(published(call).isMuted, false);
});

test("a microphone that a reconnection could not bring back is told as lost, and can be had again", async (context) => {
  const fresh = new FakeMedia();
  browserGives(context, fresh);
  const call = new Call();
  const room = await call.begin();
  const media = new FakeMedia();
  await call.session.setMicrophoneTrack(media.asTrack());
  room.reconnecting();
  room.reconnected();
  room.reconnecting();
  room.published = [];
  room.reconnected();
  assert.equal(media.readyState, "ended");
  assert.deepEqual(call.types().slice(2), ["reconnecting", "reconnected", "microphone_lost"]);
  await call.session.setMicrophoneEnabled(true);
  assert.equal(published(call).mediaStreamTrack, fresh.asTrack());
  assert.equal(call.types().at(-1), "microphone_restored");
});

test("another track takes the place of the first without a gap, and the first is stopped", async () => {
  const call = new Call();
  await call.begin();
  const [desk, headset] = [new FakeMedia("Desk"), new FakeMedia("Headset")];
  await call.session.setMicrophoneTrack(desk.asTrack());
  const sender = published(call).sender as unknown as FakeSender;
  desk.stop = () => {
    assert.equal(sender.track, headset.asTrack(), "the old one is stopped while it is still sent");
    desk.readyState = "ended";
  };
  await call.session.setMicrophoneTrack(headset.asTrack());
  assert.equal(desk.readyState, "ended");
  assert.equal(headset.readyState, "live");
  assert.equal(published(call).mediaStreamTrack, headset.asTrack());
  desk.dispatchEvent(new Event("ended"));
  desk.switch(false);
  await settled();
  assert.deepEqual(call.heard, []);
  await call.session.disconnect();
  assert.equal(headset.readyState, "ended");
});

test("another track keeps the mute, and one that is refused leaves the first one speaking", async () => {
  const call = new Call();
  await call.begin();
  await call.session.setMicrophoneTrack(new FakeMedia().asTrack());
  await call.session.setMicrophoneEnabled(false);
  const second = new FakeMedia();
  await call.session.setMicrophoneTrack(second.asTrack());
  assert.equal(second.enabled, false);
  await call.session.setMicrophoneEnabled(true);
  assert.equal(second.enabled, true);
  const sender = published(call).sender as unknown as FakeSender;
  sender.replaceTrack = () => Promise.reject(new DOMException("no", "InvalidModificationError"));
  const third = new FakeMedia();
  await assert.rejects(call.session.setMicrophoneTrack(third.asTrack()), {
    name: "InvalidModificationError",
  });
  assert.equal(third.readyState, "ended");
  assert.equal(second.readyState, "live");
});

test("many tracks at once end with the last one, and none of the others stays open", async () => {
  const call = new Call();
  await call.begin();
  const all = Array.from({ length: 5 }, () => new FakeMedia());
  await Promise.all(all.map((media) => call.session.setMicrophoneTrack(media.asTrack())));
  assert.deepEqual(
    all.map((media) => media.readyState),
    ["ended", "ended", "ended", "ended", "live"],
  );
});

test("a device that ends while another one takes over is told as switched, with the new one's name", async (context) => {
  browserGives(context, new FakeMedia("Headset"));
  const call = new Call();
  await call.begin();
  const media = new FakeMedia("Desk");
  await call.session.setMicrophoneTrack(media.asTrack());
  await settled();
  media.end();
  await published(call).restartTrack(); // what LiveKit does when the device ends
  assert.deepEqual(call.heard, [{ type: "microphone_switched", data: { label: "Headset" } }]);
});

test("a device that LiveKit takes anew after a reconnection is no other one", async (context) => {
  const again = new FakeMedia("Desk");
  browserGives(context, again);
  const call = new Call();
  await call.begin();
  await call.session.setMicrophoneTrack(new FakeMedia("Desk").asTrack());
  await published(call).restartTrack();
  assert.deepEqual(call.heard, []);
});

test("a device that LiveKit leaves for another one without an end is told as switched, too", async (context) => {
  browserGives(context, new FakeMedia("Earbuds"));
  const call = new Call();
  await call.begin();
  await call.session.setMicrophoneTrack(new FakeMedia("Desk").asTrack());
  await published(call).restartTrack();
  assert.deepEqual(call.heard, [{ type: "microphone_switched", data: { label: "Earbuds" } }]);
});

test("a device that ends and for which nothing comes is lost, also if LiveKit says nothing", async (context) => {
  context.mock.timers.enable(TIMERS);
  const call = new Call();
  await call.begin();
  const media = new FakeMedia();
  await call.session.setMicrophoneTrack(media.asTrack());
  await settled();
  media.end();
  context.mock.timers.tick(TAKEOVER_MS);
  assert.deepEqual(call.types(), ["microphone_lost"]);
});

test("a device that ends while the page mutes is no loss, and is replaced by the unmuting", async (context) => {
  context.mock.timers.enable(TIMERS);
  const spare = new FakeMedia();
  const asked = browserGives(context, spare);
  const call = new Call();
  await call.begin();
  const media = new FakeMedia();
  await call.session.setMicrophoneTrack(media.asTrack());
  await call.session.setMicrophoneEnabled(false);
  await settled();
  media.end();
  context.mock.timers.tick(10 * TAKEOVER_MS);
  await call.session.setMicrophoneEnabled(true);
  assert.deepEqual(asked, [{ audio: CAPTURE }], "any device, with the same treatment of its sound");
  assert.equal(published(call).mediaStreamTrack, spare.asTrack());
  assert.equal(spare.enabled, true);
  assert.deepEqual(call.heard, []);
});

test("a track that was dead when it was given is told as lost", async () => {
  const call = new Call();
  await call.begin();
  const media = new FakeMedia();
  media.stop();
  await call.session.setMicrophoneTrack(media.asTrack());
  assert.deepEqual(call.types(), ["microphone_lost"]);
});

test("the device's own switch is told after a second, and when it is on again", async (context) => {
  context.mock.timers.enable(TIMERS);
  const call = new Call();
  await call.begin();
  const media = new FakeMedia();
  await call.session.setMicrophoneTrack(media.asTrack());
  media.switch(false);
  context.mock.timers.tick(HARDWARE_MUTE_MS - 1);
  media.switch(true);
  context.mock.timers.tick(10 * HARDWARE_MUTE_MS);
  assert.deepEqual(call.heard, []);

  media.switch(false);
  context.mock.timers.tick(HARDWARE_MUTE_MS);
  assert.deepEqual(call.types(), ["microphone_muted_by_hardware"]);
  // LiveKit stops sending after five seconds of it.
  await published(call).pauseUpstream();
  assert.deepEqual(call.types(), ["microphone_muted_by_hardware"]);
  media.switch(true);
  await settled();
  assert.deepEqual(call.types(), ["microphone_muted_by_hardware", "microphone_restored"]);
});

test("the device's switch says nothing while the page mutes, and is told when it unmutes", async (context) => {
  context.mock.timers.enable(TIMERS);
  const call = new Call();
  await call.begin();
  const media = new FakeMedia();
  await call.session.setMicrophoneTrack(media.asTrack());
  media.switch(false);
  await call.session.setMicrophoneEnabled(false);
  context.mock.timers.tick(10 * HARDWARE_MUTE_MS);
  media.switch(true);
  media.switch(false);
  context.mock.timers.tick(10 * HARDWARE_MUTE_MS);
  assert.deepEqual(call.heard, []);
  await call.session.setMicrophoneEnabled(true);
  context.mock.timers.tick(HARDWARE_MUTE_MS);
  assert.deepEqual(call.types(), ["microphone_muted_by_hardware"]);
  await call.session.setMicrophoneTrack(new FakeMedia().asTrack());
  assert.deepEqual(call.types(), ["microphone_muted_by_hardware", "microphone_restored"]);
});

test("LiveKit's search for a device leaves none open after the call, whenever it began", async (context) => {
  for (const beginsBefore of [true, false]) {
    const late = new FakeMedia();
    let grant!: (media: FakeMedia) => void;
    browserGives(context, new Promise<FakeMedia>((resolve) => (grant = resolve)));
    const call = new Call();
    await call.begin();
    const media = new FakeMedia();
    await call.session.setMicrophoneTrack(media.asTrack());
    const track = published(call);
    await settled();
    media.end();
    const early = beginsBefore ? track.restartTrack() : undefined;
    await settled();
    await call.session.disconnect();
    const restarting = early ?? track.restartTrack();
    await settled();
    grant(late);
    await restarting;
    assert.equal(late.readyState, "ended");
  }
});
