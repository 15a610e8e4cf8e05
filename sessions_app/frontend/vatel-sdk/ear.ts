/** Hears when the agent begins to speak: the first sound after the ear was asked to listen. */

const POLL_MS = 100;
/** 0.34 s at 48 kHz: more than a poll, so that a busy page misses nothing. */
const WINDOW = 16_384;
/** Loudness is judged over so many samples, 21 ms at 48 kHz: a click is none. */
const BLOCK = 1_024;
/** Mean square, −40 dB of full scale: above what codecs make of silence, below any speech. */
const LOUD = 0.01 ** 2;
/** Nobody answers any more. */
const PATIENCE_MS = 30_000;

/**
 * Reads what the agent's track brings beside its playback, which it does not touch: nothing is connected to the
 * loudspeaker. Where the browser has no way to measure, it hears nothing.
 */
export class Ear {
  readonly #onSound: (agoMs: number) => void;
  readonly #samples = new Float32Array(WINDOW);
  #context: AudioContext | undefined;
  #analyser: AnalyserNode | undefined;
  #source: MediaStreamAudioSourceNode | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(onSound: (agoMs: number) => void) {
    this.#onSound = onSound;
  }

  /** Takes the track in the place of an earlier one. */
  attach(track: MediaStreamTrack): void {
    if (typeof AudioContext === "undefined") return;
    try {
      this.#context ??= new AudioContext();
      this.#analyser ??= this.#context.createAnalyser();
      this.#analyser.fftSize = WINDOW;
      this.#source?.disconnect();
      this.#source = this.#context.createMediaStreamSource(new MediaStream([track]));
      this.#source.connect(this.#analyser);
    } catch (error) {
      console.warn("The beginnings of the agent's replies cannot be measured:", error);
    }
  }

  /** Tells of the next sound, once. What sounds already was not waited for: then there is nothing to tell. */
  listen(): void {
    this.rest();
    const sampleRate = this.#context?.sampleRate;
    if (sampleRate === undefined || this.#firstSound(BLOCK) !== undefined) return;
    const began = performance.now();
    let last = began;
    const poll = () => {
      const now = performance.now();
      const unheard = Math.min(WINDOW, Math.floor(((now - last) / 1000) * sampleRate));
      // A page that was held up for longer than the window cannot know when the sound began.
      const isTooLate = now - began > PATIENCE_MS || unheard === WINDOW;
      const ago = isTooLate ? undefined : this.#firstSound(unheard + BLOCK);
      last = now;
      if (ago !== undefined) this.#onSound(Math.min(now - began, (ago / sampleRate) * 1000));
      else if (!isTooLate) this.#timer = setTimeout(poll, POLL_MS);
    };
    this.#timer = setTimeout(poll, POLL_MS);
  }

  rest(): void {
    clearTimeout(this.#timer);
  }

  /** Inside a click: a browser that holds back the sound holds back the measuring too. */
  resume(): void {
    this.#context?.resume().catch(() => undefined); // still held back: nothing is heard, and nothing told
  }

  close(): void {
    this.rest();
    this.#context?.close().catch(() => undefined); // it is closed already
    this.#context = undefined;
    this.#analyser = undefined;
  }

  /** How many samples ago the first loud block of the newest `count` samples began; undefined: all is quiet. */
  #firstSound(count: number): number | undefined {
    this.#analyser?.getFloatTimeDomainData(this.#samples);
    for (let from = WINDOW - Math.min(count, WINDOW); from + BLOCK <= WINDOW; from += BLOCK) {
      let energy = 0;
      for (const sample of this.#samples.subarray(from, from + BLOCK)) energy += sample * sample;
      if (energy / BLOCK > LOUD) return WINDOW - from;
    }
    return undefined;
  }
}
