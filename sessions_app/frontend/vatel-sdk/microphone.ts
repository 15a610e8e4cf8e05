/** The caller's microphone in one connection: published once, then muted and unmuted. */

import { LocalAudioTrack, type LocalTrack, type Room, Track, TrackEvent } from "livekit-client";
import { NotConnectedError } from "./errors";

const CAPTURE: MediaTrackConstraints = {
  echoCancellation: true,
  noiseSuppression: true,
  autoGainControl: true,
};

/** DTX off: silence must arrive as silence, or the agent cannot tell the end of speech from a lost line. */
const PUBLISH = { source: Track.Source.Microphone, dtx: false } as const;

export class Microphone {
  readonly #room: Room;
  readonly #tell: (type: "microphone_lost" | "microphone_restored") => void;
  #track: LocalAudioTrack | undefined;
  #published = false;
  #wanted = true;
  #lost = false;
  #closed = false;
  #queue: Promise<unknown> = Promise.resolve();
  #refuse!: (error: NotConnectedError) => void;
  readonly #closing = new Promise<never>((_, reject) => {
    this.#refuse = reject;
  });

  constructor(room: Room, tell: (type: "microphone_lost" | "microphone_restored") => void) {
    this.#room = room;
    this.#tell = tell;
    // Raced against below; on its own it is not an error that nobody handled.
    this.#closing.catch(() => {});
  }

  /** Publish a granted track, or put it in the place of the published one; a mute stays. If that fails, it is stopped. */
  async publish(media: MediaStreamTrack): Promise<void> {
    try {
      await this.#inOrder(() => this.#publish(media));
    } catch (error) {
      media.stop();
      throw error;
    }
  }

  /** Unmute, after getting and publishing a microphone if there is none yet; or mute. */
  setEnabled(enabled: boolean): Promise<void> {
    return this.#inOrder(() => (enabled ? this.#enable() : this.#mute()));
  }

  /** After a full reconnection LiveKit gets and publishes the microphone anew; if that fails, it says nothing. */
  reconnected(): void {
    if (!this.#published || this.#room.localParticipant.getTrackPublication(Track.Source.Microphone)) return;
    this.#forget();
    this.#lose();
  }

  /** Let go of the device, now. What is still under way is refused, and a track that is granted late is stopped. */
  close(): void {
    this.#closed = true;
    this.#track?.stop();
    this.#refuse(new NotConnectedError());
  }

  /** A prompt that nobody answers may keep an action waiting for ever; the end of the call does not wait for it. */
  #inOrder(action: () => Promise<void>): Promise<void> {
    const run = this.#queue.then(() => {
      if (this.#closed) throw new NotConnectedError();
      return action();
    });
    // The error goes to the caller of this action; it must not fail the next one.
    this.#queue = run.catch(() => {});
    return Promise.race([run, this.#closing]);
  }

  async #publish(media: MediaStreamTrack): Promise<void> {
    if (this.#track) {
      await this.#track.replaceTrack(media, false);
      if (this.#wanted) await this.#track.unmute();
    } else {
      // Not "user provided": LiveKit then takes another device when this one ends, and gets it again on unmute.
      const track = new LocalAudioTrack(media, undefined, false);
      this.#track = track;
      this.#watch(track);
      try {
        if (!this.#wanted) await track.mute();
        // The cast: LiveKit's types do not fit each other under exactOptionalPropertyTypes.
        await this.#room.localParticipant.publishTrack(track as LocalTrack, PUBLISH);
      } catch (error) {
        this.#forget();
        throw error;
      }
      this.#published = true;
    }
    this.#restore();
    if (this.#closed) this.#track.stop();
    // Browsers that blocked the sound allow it to a page that holds a microphone. The room's event tells the outcome.
    else if (!this.#room.canPlaybackAudio) void this.#room.startAudio();
  }

  #forget(): void {
    this.#track?.stop();
    this.#track = undefined;
    this.#published = false;
  }

  async #enable(): Promise<void> {
    this.#wanted = true;
    const track = this.#track;
    if (!track) return this.#publish(await this.#capture());
    if (track.isMuted) await track.unmute();
    else if (track.mediaStreamTrack.readyState === "ended") await track.restartTrack();
  }

  async #mute(): Promise<void> {
    this.#wanted = false;
    await this.#track?.mute();
  }

  /** Our own getUserMedia: LiveKit's keeps a microphone open that is granted after the hang-up. */
  async #capture(): Promise<MediaStreamTrack> {
    if (!navigator.mediaDevices) {
      throw new DOMException("A microphone needs a secure page: https, or localhost.", "SecurityError");
    }
    const [media] = (await navigator.mediaDevices.getUserMedia({ audio: CAPTURE })).getAudioTracks();
    if (!media) throw new DOMException("The browser gave no microphone.", "NotFoundError");
    if (this.#closed) {
      media.stop();
      throw new NotConnectedError();
    }
    return media;
  }

  #watch(track: LocalAudioTrack): void {
    const lost = () => this.#lose();
    const restored = () => this.#restore();
    track.on(TrackEvent.Ended, lost).on(TrackEvent.Muted, lost).on(TrackEvent.UpstreamPaused, lost);
    track
      .on(TrackEvent.Restarted, restored)
      .on(TrackEvent.Unmuted, restored)
      .on(TrackEvent.UpstreamResumed, restored);
  }

  /** Muting, a dead device and a mute switch all look alike from outside; only our own mute is not a loss. */
  #lose(): void {
    if (!this.#wanted || this.#lost || this.#closed) return;
    this.#lost = true;
    this.#tell("microphone_lost");
  }

  #restore(): void {
    if (!this.#lost || this.#closed) return;
    this.#lost = false;
    this.#tell("microphone_restored");
  }
}
