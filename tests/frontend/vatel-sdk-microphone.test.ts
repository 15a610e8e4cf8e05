import assert from "node:assert/strict";
import { test } from "node:test";
import type { LocalAudioTrack } from "livekit-client";
import { browserGives, FakeMedia } from "./vatel-sdk-media";
import { Call, settled } from "./vatel-sdk-room";

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
  const wanted = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
  assert.deepEqual(asked, [{ audio: wanted }]);
});

test("on and off at the same time ends off", async (context) => {
  const media = new FakeMedia();
  browserGives(context, media);
  const call = new Call();
  await call.begin();
  await Promise.all([call.session.setMicrophoneEnabled(true), call.session.setMicrophoneEnabled(false)]);
  assert.equal(published(call).isMuted, true);
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
