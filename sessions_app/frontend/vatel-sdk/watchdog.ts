/** Notices what nobody tells: that nothing arrives, that the microphone gives no sound, that the agent is not heard. */

import type { LocalAudioTrack, RemoteTrack } from "livekit-client";
import type { LocalData } from "./messages";

/**
 * It counts looks, not seconds: a page whose timers are held back, in the background or asleep, looks less often. It
 * is late with its news then, but never wrong, for in a call that goes on something has arrived at each look.
 */
export const LOOK_MS = 1_000;

/** A server that gets our sound reports on it every second, so that even without any from the agent this is no chance. */
export const POOR_LOOKS = 2;

/** Tunnels and changes of the network are shorter; LiveKit itself would go on trying for up to 208 s. */
export const GIVE_UP_LOOKS = 25;

/** A microphone that works is never without any noise. */
export const SILENT_LOOKS = 5;

/** A voice is heard within seconds of its text. One more than five, because the first comes right after the text. */
export const UNHEARD_LOOKS = 6;

/** Energy of a second, full scale being 1. −90 dB: one step of 16 bits. */
const NOISE = 1e-9;
/** −60 dB: more than codecs make of silence. */
const SOUND = 1e-6;

type News =
  | "connection_poor"
  | "connection_good"
  | "microphone_silent"
  | "microphone_heard"
  | "agent_unheard"
  | "agent_heard";

export interface Watched {
  /** The agent's sound. */
  voices(): RemoteTrack[];
  /** The caller's: `track` is what is sent, be it muted; `live` the same, if it is to be heard. */
  readonly microphone: {
    readonly track: LocalAudioTrack | undefined;
    readonly live: LocalAudioTrack | undefined;
  };
  isReconnecting(): boolean;
  /** The browser does not hold back the sound. */
  isPlaying(): boolean;
  tell(type: News & keyof LocalData): void;
  /** Nothing has come for so long that nothing will. */
  giveUp(): void;
}

/** All of it only ever grows, unless a track comes or goes. What the browser does not measure is NaN. */
interface Reading {
  /**
   * Packets and bytes of all kinds, by what counted them: even with nobody speaking there are reports and connectivity
   * checks. Apart, because a dying connection changes over to another pair of addresses, with a count of its own.
   */
  received: Map<string, number>;
  sentEnergy: number;
  heardEnergy: number;
}

interface Changes {
  hasReceived: boolean;
  sentEnergy: number;
  heardEnergy: number;
}

export class Watchdog {
  readonly #watched: Watched;
  readonly #line: Alarm;
  readonly #microphone: Alarm;
  readonly #agent: Alarm;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isReading = false;
  #isOver = false;
  #last: Reading | undefined;
  /** Looks since something arrived. */
  #still = 0;
  #device: MediaStreamTrack | undefined;
  #wasLive = false;
  #isCallerSpeaking = false;
  /** Since the caller's last word. */
  #hasAgentSounded = false;
  #hasAgentWritten = false;

  constructor(watched: Watched) {
    this.#watched = watched;
    const alarm = (looks: number, bad: News, good: News) =>
      new Alarm(looks, (isOn) => watched.tell(isOn ? bad : good));
    this.#line = alarm(POOR_LOOKS, "connection_poor", "connection_good");
    this.#microphone = alarm(SILENT_LOOKS, "microphone_silent", "microphone_heard");
    this.#agent = alarm(UNHEARD_LOOKS, "agent_unheard", "agent_heard");
  }

  start(): void {
    if (!this.#isOver) this.#timer = setTimeout(() => this.#look(), LOOK_MS);
  }

  stop(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }

  /** The connection is a new one: what was counted in the old one says nothing of it. */
  reset(): void {
    this.#last = undefined;
    this.#still = 0;
    this.#isCallerSpeaking = false; // the word that it ended may have been lost
    for (const alarm of [this.#line, this.#microphone, this.#agent]) alarm.reset();
  }

  /** Each message's type: some say who is to be heard. */
  receive(type: string): void {
    if (type === "speech_started" || type === "speech_stopped") {
      this.#isCallerSpeaking = type === "speech_started";
      this.#hasAgentSounded = false;
      this.#hasAgentWritten = false;
    }
    // A turn's last text may come after its last sound, or after the caller has cut it off.
    if (type === "response_text" && !this.#isCallerSpeaking && !this.#hasAgentSounded) {
      this.#hasAgentWritten = true;
    }
  }

  #look(): void {
    this.start();
    // A connection that LiveKit has closed may never answer.
    if (this.#isReading) {
      this.#judge(undefined);
      return;
    }
    this.#isReading = true;
    read([this.#watched.microphone.track, ...this.#watched.voices()])
      .catch(() => undefined) // it was closed meanwhile
      .then((reading) => {
        this.#isReading = false;
        this.#judge(reading);
      });
  }

  #judge(reading: Reading | undefined): void {
    if (this.#isOver) return;
    const changes = changesOf(this.#last, reading);
    this.#last = reading;
    this.#judgeLine(changes);
    if (changes) {
      this.#judgeMicrophone(changes);
      this.#judgeAgent(changes);
    }
  }

  #judgeLine(changes: Changes | undefined): void {
    const isReconnecting = this.#watched.isReconnecting();
    if (changes?.hasReceived) {
      this.#still = 0;
      this.#line.look(false);
    } else if (changes || isReconnecting) {
      this.#still += 1;
      // Without our sound the server has nothing to report, and the connectivity checks are further apart.
      const isReporting = this.#watched.microphone.track?.isUpstreamPaused === false;
      if (isReporting && !isReconnecting) this.#line.look(true);
      if (this.#still >= GIVE_UP_LOOKS) this.#watched.giveUp();
    }
  }

  #judgeMicrophone({ sentEnergy }: Changes): void {
    const device = this.#watched.microphone.live?.mediaStreamTrack;
    if (device && device !== this.#device) {
      this.#device = device;
      this.#microphone.reset();
    } else if (device && this.#wasLive && sentEnergy >= 0) {
      this.#microphone.look(sentEnergy < NOISE);
    }
    this.#wasLive = device !== undefined;
  }

  #judgeAgent({ heardEnergy }: Changes): void {
    if (heardEnergy >= SOUND) {
      this.#hasAgentSounded = true;
      this.#hasAgentWritten = false;
      this.#agent.look(false);
    } else if (!this.#watched.isPlaying()) {
      // What is not played is not measured, and nobody waits for it any more when it may be played.
      this.#hasAgentWritten = false;
    } else if (heardEnergy >= 0 && this.#hasAgentWritten && this.#still === 0) {
      this.#agent.look(true);
    }
  }
}

/** Is told after so many bad looks, and after the next good one. */
class Alarm {
  readonly #looks: number;
  readonly #tell: (isOn: boolean) => void;
  #bad = 0;
  #isOn = false;

  constructor(looks: number, tell: (isOn: boolean) => void) {
    this.#looks = looks;
    this.#tell = tell;
  }

  look(isBad: boolean): void {
    this.#bad = isBad ? this.#bad + 1 : 0;
    if (isBad ? this.#isOn || this.#bad < this.#looks : !this.#isOn) return;
    this.#isOn = isBad;
    this.#tell(isBad);
  }

  /** What is on stays on, until a good look. */
  reset(): void {
    this.#bad = 0;
  }
}

/** Undefined: there is nothing to measure. */
async function read(tracks: (LocalAudioTrack | RemoteTrack | undefined)[]): Promise<Reading | undefined> {
  const reports = await Promise.all(tracks.map((track) => track?.getRTCStatsReport()));
  const received = new Map<string, number>();
  const reading = { received, sentEnergy: Number.NaN, heardEnergy: 0 };
  for (const report of reports) {
    report?.forEach((stats, id) => {
      // Browsers differ in which of these they count, and where.
      const { packetsReceived = 0, bytesReceived = 0, requestsReceived = 0, responsesReceived = 0 } = stats;
      if (stats.type === "inbound-rtp" || stats.type === "transport" || stats.type === "candidate-pair") {
        received.set(id, packetsReceived + bytesReceived + requestsReceived + responsesReceived);
      }
      if (stats.type === "media-source") reading.sentEnergy = Number(stats.totalAudioEnergy);
      if (stats.type === "inbound-rtp") reading.heardEnergy += Number(stats.totalAudioEnergy);
    });
  }
  return received.size > 0 ? reading : undefined;
}

/** Undefined: nothing was measured twice. */
function changesOf(last: Reading | undefined, now: Reading | undefined): Changes | undefined {
  if (!last || !now) return undefined;
  const grown = [...now.received].map(([id, count]) => count - (last.received.get(id) ?? Number.NaN));
  return {
    hasReceived: grown.some((more) => more > 0),
    sentEnergy: now.sentEnergy - last.sentEnergy,
    heardEnergy: now.heardEnergy - last.heardEnergy,
  };
}
