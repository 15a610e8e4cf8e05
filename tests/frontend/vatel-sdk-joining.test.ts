import assert from "node:assert/strict";
import { test } from "node:test";
import { ConnectionError } from "livekit-client";
import { HARDWARE_MUTE_MS } from "../../sessions_app/frontend/vatel-sdk/microphone";
import { FakeMedia } from "./vatel-sdk-media";
import { Call, settled, TOKEN, URL_ } from "./vatel-sdk-room";

test("a microphone that is given while the call is joined is sent before the sound can flow", async () => {
  const call = new Call();
  const connecting = call.session.connect({ token: TOKEN, url: URL_ });
  const media = new FakeMedia();
  const sending = call.session.setMicrophoneTrack(media.asTrack());
  const muting = call.session.setMicrophoneEnabled(false);
  await call.room.asked();
  await settled();
  assert.equal(call.room.published.length, 0);
  const publish = call.room.localParticipant.publishTrack;
  call.room.localParticipant.publishTrack = (track, options) => {
    assert.equal(track.isMuted, true, "the mute comes before the sound");
    return publish(track, options);
  };
  call.room.signalled();
  await Promise.all([sending, muting]);
  assert.equal(call.room.published[0]?.mediaStreamTrack, media.asTrack());
  assert.equal(call.room.published[0]?.isMuted, true);
  call.room.admit();
  await connecting;
  assert.deepEqual(call.heard, []);
});

test("what happens to a microphone before the call is joined is told when it is", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const call = new Call();
  const connecting = call.session.connect({ token: TOKEN, url: URL_ });
  await call.room.asked();
  call.room.signalled();
  const media = new FakeMedia();
  await call.session.setMicrophoneTrack(media.asTrack());
  media.switch(false);
  context.mock.timers.tick(HARDWARE_MUTE_MS);
  assert.deepEqual(call.heard, []);
  call.room.admit();
  await connecting;
  assert.deepEqual(call.types(), ["microphone_muted_by_hardware"]);
});

test("a microphone that waits for a call which fails gets the call's own error, and serves the next try", async () => {
  const call = new Call();
  const media = new FakeMedia();
  const both = () =>
    Promise.all([
      call.session.connect({ token: TOKEN, url: URL_ }),
      call.session.setMicrophoneTrack(media.asTrack()),
    ]);
  const refused = assert.rejects(both(), { name: "VatelConnectError", code: "refused" });
  await call.room.asked();
  call.room.refuse(ConnectionError.notAllowed("no", 401));
  await refused;
  assert.equal(media.readyState, "live");
  const joined = both();
  await call.room.asked();
  call.room.admit();
  await joined;
  assert.equal(call.room.published[0]?.mediaStreamTrack, media.asTrack());
});

test("a microphone that waits for a call which is given up is let go", async () => {
  const call = new Call();
  const connecting = assert.rejects(call.session.connect({ token: TOKEN, url: URL_ }), { code: "cancelled" });
  const media = new FakeMedia();
  const sending = assert.rejects(call.session.setMicrophoneTrack(media.asTrack()), { code: "cancelled" });
  await call.room.asked();
  await call.session.disconnect();
  await Promise.all([connecting, sending]);
  assert.equal(media.readyState, "ended");
});

test("a microphone that was taken before the call failed is let go", async () => {
  const call = new Call();
  const connecting = assert.rejects(call.session.connect({ token: TOKEN, url: URL_ }), { code: "no_media" });
  await call.room.asked();
  call.room.signalled();
  const media = new FakeMedia();
  await call.session.setMicrophoneTrack(media.asTrack());
  call.room.refuse(ConnectionError.internal("could not establish pc connection"));
  await connecting;
  assert.equal(media.readyState, "ended");
});
