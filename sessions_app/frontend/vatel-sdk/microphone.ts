/** The caller's microphone in one connection: published once, then muted, unmuted and replaced. */

import { LocalAudioTrack, type LocalTrack, type Room, Track, TrackEvent } from "livekit-client";
import { NotConnectedError, VatelConnectError } from "./errors";
import type { MessageData } from "./messages";

const CAPTURE: MediaTrackConstraints = {
  echoCancellation: true,
  noiseSuppression: true,
  autoGainControl: true,
};

/** DTX off: silence must arrive as silence, or the agent cannot tell the end of speech from a lost line. */
const PUBLISH = { source: Track.Source.Microphone, dtx: false } as const;

/** Systems mute a track for a moment while they rearrange their devices. */
export const HARDWARE_MUTE_MS = 1_000;

/** LiveKit takes another device within a second; a system that asks the user first may keep it waiting for ever. */
export const TAKEOVER_MS = 3_000;

/** LiveKit listens to each new track for a moment, and opens an AudioContext for it, while the call is being joined. */
class UnjudgedTrack extends LocalAudioTrack {
  override async checkForSilence(): Promise<boolean> {
    return false;
  }
}

type Trouble = "microphone_lost" | "microphone_muted_by_hardware";
type Told = Trouble | "microphone_restored" | "microphone_switched";
type Tell = <Type extends Told>(type: Type, data: MessageData[Type]) => void;

export class Microphone {
  readonly #room: Room;
  readonly #tell: Tell;
  #track: LocalAudioTrack | undefined;
  #published = false;
  #wanted = true;
  #trouble: Trouble | undefined;
  /** The device ended, and LiveKit looks for another one. */
  #hasEnded = false;
  #label = "";
  #closed = false;
  #queue: Promise<unknown> = Promise.resolve();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #open!: () => void;
  readonly #opened = new Promise<void>((resolve) => {
    this.#open = resolve;
  });
  #refuse!: (error: Error) => void;
  readonly #closing = new Promise<never>((_, reject) => {
    this.#refuse = reject;
  });

  constructor(room: Room, tell: Tell) {
    this.#room = room;
    this.#tell = tell;
    // Raced against below; on its own it is not an error that nobody handled.
    this.#closing.catch(() => {});
  }

  /** The track that should be heard; undefined while there is none, the page mutes it, or its trouble is told. */
  get live(): LocalAudioTrack | undefined {
    const isHeard = this.#published && this.#wanted && !this.#trouble && !this.#hasEnded;
    return isHeard && !this.#track?.isUpstreamPaused ? this.#track : undefined;
  }

  /** Published, be it muted. */
  get track(): LocalAudioTrack | undefined {
    return this.#published ? this.#track : undefined;
  }

  /** The media server takes tracks from now on: before the sound can flow, so that one does not wait for the other. */
  open(): void {
    this.#open();
  }

  /** Publish a granted track, or put it in the place of the published one; a mute stays. If that fails, it is stopped. */
  async publish(media: MediaStreamTrack): Promise<void> {
    try {
      await this.#inOrder(() => this.#publish(media));
    } catch (error) {
      // One that a failed join never took may serve the page's next try.
      if (!(error instanceof VatelConnectError) || error.code === "cancelled") media.stop();
      throw error;
    }
  }

  /** Unmute, after getting and publishing a microphone if there is none or it has ended; or mute. */
  setEnabled(enabled: boolean): Promise<void> {
    this.#wanted = enabled; // at once: what still waits to be sent is sent accordingly
    return this.#inOrder(() => (enabled ? this.#enable() : this.#mute()));
  }

  /** After a full reconnection LiveKit gets and publishes the microphone anew; if that fails, it says nothing. */
  reconnected(): void {
    if (!this.#published || this.#room.localParticipant.getTrackPublication(Track.Source.Microphone)) return;
    this.#forget();
    this.#lose();
  }

  /** Let go of the device, now. What is still under way is refused, and a track that is granted late is stopped. */
  close(error: Error = new NotConnectedError()): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#track?.stop();
    this.#refuse(error);
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
      // The sender changes over from one device to the other, then LiveKit stops the old one.
      await this.#track.replaceTrack(media, false);
      this.#hasEnded = false;
      if (this.#wanted) await this.#track.unmute();
    } else {
      await this.#publishFirst(media);
    }
    if (this.#closed) return this.#track?.stop();
    this.#watch(media);
    if (media.readyState === "ended") this.#lose();
    else this.#settle();
    // Browsers that blocked the sound allow it to a page that holds a microphone. The room's event tells the outcome.
    if (!this.#room.canPlaybackAudio) void this.#room.startAudio();
  }

  async #publishFirst(media: MediaStreamTrack): Promise<void> {
    await this.#opened;
    // Not "user provided": LiveKit then takes another device when this one ends.
    const track = new UnjudgedTrack(media, undefined, false);
    this.#track = track;
    track
      .on(TrackEvent.Ended, () => this.#ended())
      .on(TrackEvent.Restarted, () => this.#restarted(track))
      .on(TrackEvent.Muted, () => this.#lose())
      .on(TrackEvent.Unmuted, () => this.#settle());
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

  #forget(): void {
    this.#track?.stop();
    this.#track = undefined;
    this.#published = false;
  }

  async #enable(): Promise<void> {
    const track = this.#track;
    // Not by LiveKit's unmute: it asks for the device that has ended, and for no other.
    if (!track || track.mediaStreamTrack.readyState === "ended") return this.#publish(await this.#capture());
    if (this.#wanted) await track.unmute();
    this.#settle();
  }

  async #mute(): Promise<void> {
    if (!this.#wanted) await this.#track?.mute();
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

  /** LiveKit tells nothing of a switch on the device, and stops sending after five seconds of it. */
  #watch(media: MediaStreamTrack): void {
    media.addEventListener("mute", () => this.#settle());
    media.addEventListener("unmute", () => this.#settle());
    this.#label = media.label;
  }

  #ended(): void {
    if (!this.#wanted || this.#closed) return;
    this.#hasEnded = true;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#lose(), TAKEOVER_MS);
  }

  /** LiveKit has taken a device anew: the next one, or after a full reconnection the same. */
  #restarted(track: LocalAudioTrack): void {
    // It may have begun before the hang-up.
    if (this.#closed) {
      track.stop();
      return;
    }
    const isOther = this.#hasEnded || track.mediaStreamTrack.label !== this.#label;
    this.#hasEnded = false;
    this.#watch(track.mediaStreamTrack);
    this.#settle();
    if (isOther) this.#tell("microphone_switched", { label: this.#label });
  }

  /** Muting, a dead device and a mute by the server all look alike from outside. */
  #lose(): void {
    clearTimeout(this.#timer);
    this.#hasEnded = false;
    this.#tellTrouble("microphone_lost");
  }

  /** The microphone works, as far as can be seen; or its own switch is off. */
  #settle(): void {
    const media = this.#track?.mediaStreamTrack;
    if (this.#closed || media?.readyState !== "live") return;
    clearTimeout(this.#timer);
    if (!media.muted) this.#tellTrouble(undefined);
    else this.#timer = setTimeout(() => this.#tellTrouble("microphone_muted_by_hardware"), HARDWARE_MUTE_MS);
  }

  #tellTrouble(trouble: Trouble | undefined): void {
    if (trouble === this.#trouble || this.#closed) return;
    if (trouble && !this.#wanted) return; // the page's own mute is no trouble, and hides any other
    this.#trouble = trouble;
    this.#tell(trouble ?? "microphone_restored", {});
  }
}
