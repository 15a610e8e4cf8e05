/** The agent's voice on the page: an audio element for each of its tracks. */

import { type RemoteTrack, Track } from "livekit-client";

export class Voices {
  readonly #container: HTMLElement | undefined;
  readonly #elements = new Map<RemoteTrack, HTMLMediaElement>();

  constructor(container: HTMLElement | undefined) {
    this.#container = container;
  }

  get tracks(): RemoteTrack[] {
    return [...this.#elements.keys()];
  }

  /** Plays a track. False: it is no sound. */
  add(track: RemoteTrack): boolean {
    if (track.kind !== Track.Kind.Audio) return false;
    const element = track.attach();
    element.autoplay = true;
    element.setAttribute("playsinline", "");
    this.#container?.append(element);
    this.#elements.set(track, element);
    return true;
  }

  /** True: it was the last one. */
  remove(track: RemoteTrack): boolean {
    // By our own reference: LiveKit has already detached it, and would leave it in the document.
    const element = this.#elements.get(track);
    if (element) drop(element);
    return this.#elements.delete(track) && this.#elements.size === 0;
  }

  close(): void {
    for (const element of this.#elements.values()) drop(element);
    this.#elements.clear();
  }
}

/** LiveKit plays later calls on the same element, and then does not choose the system's speaker, but takes it for granted. */
function drop(element: HTMLMediaElement): void {
  element.remove();
  if (element.sinkId) element.setSinkId("").catch(() => undefined); // refused: it is not playing there any more
}

/**
 * Asks an element that is never played whether sound can go to that speaker ("" is the system's). False: to no other.
 *
 * @throws DOMException: NotFoundError, NotAllowedError, AbortError; NotSupportedError where nobody can choose.
 */
export async function trySpeaker(id: string): Promise<boolean> {
  const element = new Audio();
  if (element.setSinkId) {
    await element.setSinkId(id);
    return true;
  }
  if (id !== "") throw new DOMException("This browser cannot choose a speaker.", "NotSupportedError");
  return false;
}
