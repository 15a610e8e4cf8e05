import type { Levels } from "./levels";

const VOICES = ["caller", "agent"] as const;
/** A voice is shown as soon as it is heard, and falls slowly enough not to flicker between syllables. */
const RISE_MS = 40;
const FALL_MS = 220;
/** Without motion: so many steps of loudness, each standing for longer than a pause between words. */
const STEPS = 4;
const STEP_MS = 600;

/**
 * Shows who is heard while a call is live, by what really sounds: `--caller-level` and `--agent-level`, from 0 to
 * 1, on `#orb` and `#meter`. (On a common ancestor, each frame would style all captions anew.) For visitors who
 * want less motion they do not follow the voice, but tell in coarse and slow steps how loud it was. A page that
 * nobody sees draws nothing.
 */
export class VoiceView {
  readonly #places: HTMLElement[];
  readonly #lessMotion = matchMedia("(prefers-reduced-motion: reduce)");
  readonly #voices = VOICES.map((name) => new Voice(name));
  #frame: number | undefined;

  constructor(main: HTMLElement) {
    this.#places = [...main.querySelectorAll<HTMLElement>("#orb, #meter")];
  }

  start(levels: Levels): void {
    this.stop();
    let before: number | undefined;
    const draw = (now: number) => {
      this.#frame = requestAnimationFrame(draw);
      const heard = levels.read();
      for (const voice of this.#voices) {
        voice.follow(heard[voice.name], now - (before ?? now));
        if (this.#lessMotion.matches) voice.drawStep(this.#places, now);
        else voice.draw(this.#places);
      }
      before = now;
    };
    this.#frame = requestAnimationFrame(draw);
  }

  stop(): void {
    if (this.#frame !== undefined) cancelAnimationFrame(this.#frame);
    this.#frame = undefined;
    for (const voice of this.#voices) voice.rest(this.#places);
  }
}

class Voice {
  readonly name: (typeof VOICES)[number];
  #level = 0;
  /** The loudest since the last step. */
  #peak = 0;
  #steppedAt = 0;
  #drawn = "";

  constructor(name: (typeof VOICES)[number]) {
    this.name = name;
  }

  follow(level: number, passed: number): void {
    const pace = level > this.#level ? RISE_MS : FALL_MS;
    this.#level += (level - this.#level) * (1 - Math.exp(-passed / pace));
    this.#peak = Math.max(this.#peak, level);
  }

  draw(places: HTMLElement[]): void {
    this.#peak = 0;
    this.#show(places, this.#level);
  }

  drawStep(places: HTMLElement[], now: number): void {
    if (now - this.#steppedAt < STEP_MS) return;
    this.#steppedAt = now;
    this.#show(places, Math.round(this.#peak * STEPS) / STEPS);
    this.#peak = 0;
  }

  rest(places: HTMLElement[]): void {
    this.#level = 0;
    this.#peak = 0;
    this.#show(places, 0);
  }

  #show(places: HTMLElement[], level: number): void {
    const value = level.toFixed(2);
    if (value === this.#drawn) return; // all that inherits it is styled anew
    this.#drawn = value;
    for (const { style } of places) style.setProperty(`--${this.name}-level`, value);
  }
}
