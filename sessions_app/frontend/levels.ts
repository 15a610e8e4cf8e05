/** How loud each side is at the moment. */

/** 21 ms at 48 kHz: shorter than a syllable, longer than the period of a deep voice. */
const WINDOW = 1_024;
/** Decibels of full scale: a quiet room, and speech close to the microphone. */
const FLOOR_DB = -60;
const CEILING_DB = -15;
/**
 * Browsers that wait for a gesture before they let anything sound, or measure it, take one of the first two. iOS
 * interrupts it for another call; then the page comes back into sight.
 */
const OCCASIONS = ["click", "keydown", "visibilitychange"] as const;

/**
 * Measures the microphone and what plays in `remoteAudio`. It listens beside the playback and is connected to no
 * loudspeaker. Where the browser has no way to measure, or no permission yet, all is quiet.
 */
export class Levels {
  readonly #remoteAudio: HTMLElement;
  readonly #caller = new Gauge();
  readonly #agent = new Gauge();
  readonly #closing = new AbortController();
  #context: AudioContext | null | undefined;
  #microphone: MediaStreamTrack | null = null;

  constructor(remoteAudio: HTMLElement) {
    this.#remoteAudio = remoteAudio;
    const { signal } = this.#closing;
    for (const occasion of OCCASIONS) {
      addEventListener(occasion, () => this.#resume(), { capture: true, passive: true, signal });
    }
  }

  /** The track that the agent hears; null while there is none. */
  setMicrophone(track: MediaStreamTrack | null): void {
    this.#microphone = track;
    if (!track) return;
    this.#open();
    this.#resume(); // a page that may use a microphone may use an AudioContext, too
  }

  /** From 0, a quiet room, to 1, a loud voice; even steps for the ear. */
  read(): { caller: number; agent: number } {
    const voices = [...this.#remoteAudio.querySelectorAll("audio")].flatMap(tracksOf);
    const caller = this.#microphone ? [this.#microphone] : [];
    const context = voices.length > 0 ? this.#open() : this.#context;
    if (!context) return { caller: 0, agent: 0 };
    this.#caller.listenTo(caller, context);
    this.#agent.listenTo(voices, context);
    // One that stands still goes on showing what it measured last.
    if (context.state !== "running") return { caller: 0, agent: 0 };
    return { caller: this.#caller.level(), agent: this.#agent.level() };
  }

  close(): void {
    this.#closing.abort();
    this.#microphone = null;
    this.#context?.close().catch(() => undefined); // it is closed already
    this.#context = null;
  }

  /** Not before there is something to measure: iOS changes the sample rate when a microphone is opened. */
  #open(): AudioContext | null {
    if (this.#context === undefined) this.#context = openContext();
    return this.#context;
  }

  #resume(): void {
    const context = this.#context;
    if (!context || context.state === "running" || context.state === "closed") return;
    context.resume().catch(() => undefined); // still held back: the next gesture tries again
  }
}

/** The loudness of some tracks together. */
class Gauge {
  readonly #samples = new Float32Array(WINDOW);
  readonly #sources = new Map<MediaStreamTrack, MediaStreamAudioSourceNode | null>();
  #analyser: AnalyserNode | undefined;

  listenTo(tracks: MediaStreamTrack[], context: AudioContext): void {
    for (const [track, source] of this.#sources) {
      if (tracks.includes(track) && track.readyState === "live") continue;
      source?.disconnect();
      this.#sources.delete(track);
    }
    for (const track of tracks) {
      if (track.readyState !== "live" || this.#sources.has(track)) continue;
      this.#sources.set(track, this.#connect(track, context));
    }
  }

  level(): number {
    // Without a source it is not run, and would repeat what it heard last.
    if (!this.#analyser || this.#sources.size === 0) return 0;
    this.#analyser.getFloatTimeDomainData(this.#samples);
    let energy = 0;
    for (const sample of this.#samples) energy += sample * sample;
    const decibels = 10 * Math.log10(energy / WINDOW);
    return Math.min(1, Math.max(0, (decibels - FLOOR_DB) / (CEILING_DB - FLOOR_DB)));
  }

  #connect(track: MediaStreamTrack, context: AudioContext): MediaStreamAudioSourceNode | null {
    try {
      this.#analyser ??= context.createAnalyser();
      this.#analyser.fftSize = WINDOW;
      const source = context.createMediaStreamSource(new MediaStream([track]));
      source.connect(this.#analyser);
      return source;
    } catch (error) {
      // Firefox measures no microphone whose sample rate is not the context's.
      console.warn("The loudness of a voice cannot be shown:", error);
      return null;
    }
  }
}

function openContext(): AudioContext | null {
  try {
    return new AudioContext();
  } catch (error) {
    console.warn("The loudness of the voices cannot be shown:", error);
    return null;
  }
}

function tracksOf({ srcObject }: HTMLAudioElement): MediaStreamTrack[] {
  return srcObject instanceof MediaStream ? srcObject.getAudioTracks() : [];
}
