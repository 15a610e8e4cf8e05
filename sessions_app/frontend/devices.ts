import { remember } from "./storage";

export type DeviceKind = "microphone" | "speaker";

export interface Device {
  id: string;
  label: string;
}

/** What can be chosen, and what is: ids, where "" is the system's own choice. */
export interface DeviceList {
  microphones: Device[];
  /** Empty where the browser cannot choose one, or has not named any yet. */
  speakers: Device[];
  microphone: string;
  speaker: string;
}

export type DeviceEvent =
  | { kind: "list"; list: DeviceList }
  /** Plugged in during a call. */
  | { kind: "offered"; what: DeviceKind; device: Device }
  /** The chosen one went away during a call: the choice has fallen back to the system's. */
  | { kind: "gone"; what: DeviceKind; label: string };

export interface DevicesOptions {
  /** Undefined on pages that are not secure. */
  media: Pick<MediaDevices, "enumerateDevices" | "addEventListener"> | undefined;
  storage: Storage | null;
  emit: (event: DeviceEvent) => void;
  /** While a call runs, changes are told and no device is chosen unasked. */
  isLive: () => boolean;
  canChooseSpeaker?: boolean;
}

const KINDS = { microphone: "audioinput", speaker: "audiooutput" } as const;
/** Chromium's further names of devices that it lists anyway: they mean what "" means. */
const ALIASES: ReadonlySet<string> = new Set(["", "default", "communications"]);
/** Chromium adds the USB vendor and product. */
const USB_NUMBERS = / \([0-9a-f]{4}:[0-9a-f]{4}\)$/;

const canSetSink = () => typeof HTMLMediaElement !== "undefined" && "setSinkId" in HTMLMediaElement.prototype;

/** The microphones and speakers that are there, and which of them the visitor wants: remembered from visit to visit. */
export class Devices {
  readonly #options: DevicesOptions;
  readonly #choices: Record<DeviceKind, Choice>;
  readonly #canChooseSpeaker: boolean;
  #reading: Promise<void> | undefined;
  #isOutdated = false;
  #told = "";

  constructor(options: DevicesOptions) {
    this.#options = options;
    this.#canChooseSpeaker = options.canChooseSpeaker ?? canSetSink();
    this.#choices = {
      microphone: new Choice("microphone", options.storage),
      speaker: new Choice("speaker", this.#canChooseSpeaker ? options.storage : null),
    };
    // Plugging in one headset makes several of these; `refresh` reads one list at a time.
    options.media?.addEventListener("devicechange", () => void this.refresh());
  }

  /** The id to speak with now; "" is the system's choice. */
  get microphone(): string {
    return this.#chosen("microphone");
  }

  /** The id to hear the agent on now; "" is the system's choice, and the only one where the browser has no other. */
  get speaker(): string {
    return this.#chosen("speaker");
  }

  /**
   * Reads which devices there are and tells the list if it has changed. It asks the visitor for nothing: before the
   * microphone is allowed browsers name no device, so call it again when it is.
   */
  refresh(): Promise<void> {
    this.#isOutdated = true;
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  /** Takes and remembers a device; "" forgets it in favour of the system's. One that has just gone is not taken. */
  choose(what: DeviceKind, id: string): void {
    this.#choices[what].choose(id);
    this.#told = ""; // also when nothing has changed: a picker may show what could not be taken
    this.#tell();
  }

  #chosen(what: DeviceKind): string {
    const choice = this.#choices[what];
    // Between calls, a remembered device that is back is simply used again.
    if (!this.#options.isLive()) choice.recall();
    return choice.id;
  }

  async #read(): Promise<void> {
    while (this.#isOutdated) {
      this.#isOutdated = false;
      let infos: MediaDeviceInfo[];
      try {
        infos = (await this.#options.media?.enumerateDevices()) ?? [];
      } catch {
        return; // of a document that is being left: what was known before stays as good as it was
      }
      this.#take("microphone", infos);
      if (this.#canChooseSpeaker) this.#take("speaker", infos);
      this.#tell();
    }
  }

  #take(what: DeviceKind, infos: MediaDeviceInfo[]): void {
    const choice = this.#choices[what];
    const before = choice.devices;
    choice.devices = devicesOf(what, infos);
    if (!before || !choice.devices || !this.#options.isLive()) {
      choice.recall();
      return;
    }
    const gone = before.find(({ id }) => id === choice.id);
    if (gone && !choice.has(gone.id)) {
      choice.id = "";
      this.#options.emit({ kind: "gone", what, label: gone.label });
    }
    const fresh = choice.devices.filter(({ id }) => !before.some((device) => device.id === id));
    const offered = choice.remembered(fresh) ?? fresh[0]; // a dock brings several at once: one is enough to ask about
    if (offered) this.#options.emit({ kind: "offered", what, device: offered });
  }

  #tell(): void {
    const { microphone, speaker } = this.#choices;
    const list: DeviceList = {
      microphones: microphone.devices ?? [],
      speakers: speaker.devices ?? [],
      microphone: microphone.devices ? microphone.id : "",
      speaker: speaker.devices ? speaker.id : "",
    };
    const text = JSON.stringify(list);
    if (text === this.#told) return;
    this.#told = text;
    this.#options.emit({ kind: "list", list });
  }
}

/** What is wanted of one kind, and what there is of it. */
class Choice {
  /** Undefined as long as the browser does not name them. */
  devices: Device[] | undefined;
  /** The one in use. */
  id = "";
  readonly #key: string;
  readonly #storage: Storage | null;
  /** The one in use whenever it is there. Its id changes with the browser's mood, so its label counts as well. */
  #wish: Device | undefined;

  constructor(what: DeviceKind, storage: Storage | null) {
    this.#key = `voicedemo.${what}`;
    this.#storage = storage;
    this.#wish = parse(storage?.getItem(this.#key) ?? "");
    this.recall();
  }

  has(id: string): boolean {
    return this.devices?.some((device) => device.id === id) ?? false;
  }

  /** Goes back to the wish, if it is there; as long as nobody knows what is there, it is worth a try. */
  recall(): void {
    const device = this.devices ? this.remembered(this.devices) : this.#wish;
    this.id = device?.id ?? "";
    if (device && device.id !== this.#wish?.id) this.choose(device.id); // the next visit asks for it by its new id
  }

  remembered(devices: Device[]): Device | undefined {
    const wish = this.#wish;
    return devices.find(({ id }) => id === wish?.id) ?? devices.find(({ label }) => label === wish?.label);
  }

  choose(id: string): void {
    const device = this.devices?.find((candidate) => candidate.id === id);
    if (id !== "" && !device) return;
    this.id = id;
    this.#wish = device;
    remember(this.#storage, this.#key, device ? JSON.stringify(device) : "");
  }
}

/** Undefined if there are some, but the browser keeps their names to itself, as it does without permission. */
function devicesOf(what: DeviceKind, infos: MediaDeviceInfo[]): Device[] | undefined {
  const ofKind = infos.filter(({ kind }) => kind === KINDS[what]);
  if (ofKind.length > 0 && ofKind.every(({ deviceId, label }) => !deviceId || !label)) return undefined;
  const counts = new Map<string, number>();
  return ofKind
    .filter(({ deviceId }) => !ALIASES.has(deviceId))
    .map(({ deviceId, label }) => {
      const name = label.replace(USB_NUMBERS, "") || `Unnamed ${what}`;
      const count = (counts.get(name) ?? 0) + 1;
      counts.set(name, count);
      return { id: deviceId, label: count === 1 ? name : `${name} (${count})` };
    });
}

function parse(stored: string): Device | undefined {
  try {
    const { id, label } = JSON.parse(stored);
    return typeof id === "string" && typeof label === "string" && id ? { id, label } : undefined;
  } catch {
    return undefined; // nothing is remembered, or not by us
  }
}
