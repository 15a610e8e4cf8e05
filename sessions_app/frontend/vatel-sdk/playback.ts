/** Whether the browser lets the page play sound, in one connection. */

import type { Room } from "livekit-client";

/** LiveKit tells false, true, false within milliseconds when playback is blocked. */
export const PLAYBACK_SETTLE_MS = 200;

type Tell = (type: "playback_blocked" | "playback_allowed") => void;

export class Playback {
  readonly #room: Room;
  readonly #isJoined: () => boolean;
  readonly #tell: Tell;
  readonly #startAudio: () => Promise<void>;
  #isBlocked = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(room: Room, isJoined: () => boolean, tell: Tell) {
    this.#room = room;
    this.#isJoined = isJoined;
    this.#tell = tell;
    // LiveKit calls `startAudio` as a listener too, where its refusal would be an unhandled rejection. Nothing is lost:
    // it tells each refusal as AudioPlaybackStatusChanged.
    const startAudio = room.startAudio;
    this.#startAudio = startAudio;
    room.startAudio = () => startAudio().catch(() => {});
  }

  /** Inside a click. False: the browser still refuses. */
  async start(): Promise<boolean> {
    const isAllowed = await this.#startAudio().then(
      () => true,
      () => false,
    );
    this.#report();
    return isAllowed;
  }

  /** It may have changed. */
  review(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#report(), PLAYBACK_SETTLE_MS);
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #report(): void {
    clearTimeout(this.#timer);
    const isBlocked = !this.#room.canPlaybackAudio;
    if (!this.#isJoined() || isBlocked === this.#isBlocked) return;
    this.#isBlocked = isBlocked;
    this.#tell(isBlocked ? "playback_blocked" : "playback_allowed");
  }
}
