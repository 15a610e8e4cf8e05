import type { Device, DeviceKind, DeviceList } from "./devices";
import { build, find } from "./elements";
import { allowedStorage, remember } from "./storage";

const CAPTION_SIZE_KEY = "voicedemo.caption-size";
const PUSH_TO_TALK_KEY = "voicedemo.push-to-talk";

/** What the visitor has changed. */
export interface SettingsWishes {
  /** An id of the list that was shown last; "" is the system's choice. */
  onDevice(what: DeviceKind, id: string): void;
  onPushToTalk(isOn: boolean): void;
  onCaptionSize(size: string): void;
}

/** The settings panel's inside. All of it is remembered: the devices by their owner, the rest here. */
export class SettingsView {
  readonly #storage = allowedStorage("localStorage");
  readonly #microphone = new DevicePicker("microphone");
  readonly #speaker = new DevicePicker("speaker");
  readonly #hint = find("#microphone-hint");
  readonly #pushToTalk = find<HTMLInputElement>("#push-to-talk");
  readonly #captionSizes = [...document.querySelectorAll<HTMLInputElement>("#caption-size input")];

  constructor(wishes: SettingsWishes) {
    this.#microphone.onChoice = (id) => wishes.onDevice("microphone", id);
    this.#speaker.onChoice = (id) => wishes.onDevice("speaker", id);

    this.#recall();
    this.#pushToTalk.addEventListener("change", () => {
      this.#remember();
      wishes.onPushToTalk(this.pushToTalk);
    });
    for (const input of this.#captionSizes) {
      input.addEventListener("change", () => {
        this.#remember();
        wishes.onCaptionSize(this.captionSize);
      });
    }
  }

  get pushToTalk(): boolean {
    return this.#pushToTalk.checked;
  }

  get captionSize(): string {
    return this.#captionSizes.find(({ checked }) => checked)?.value ?? "";
  }

  showDevices({ microphones, speakers, microphone, speaker }: DeviceList): void {
    this.#microphone.show(microphones, microphone);
    this.#hint.hidden = microphones.length > 0;
    // Where there is nothing to choose there is nothing to see; a keyboard that was there goes on beside it.
    if (speakers.length === 0 && this.#speaker.hasFocus) this.#microphone.focus();
    this.#speaker.show(speakers, speaker);
    this.#speaker.isHidden = speakers.length === 0;
  }

  #remember(): void {
    remember(this.#storage, PUSH_TO_TALK_KEY, this.pushToTalk ? "on" : "");
    remember(this.#storage, CAPTION_SIZE_KEY, this.captionSize);
  }

  /** What the visitor has changed before this script was there, stays. */
  #recall(): void {
    this.#pushToTalk.checked ||= this.#storage?.getItem(PUSH_TO_TALK_KEY) === "on";
    const size = this.#storage?.getItem(CAPTION_SIZE_KEY);
    const hasSize = this.#captionSizes.some(({ checked, defaultChecked }) => checked && !defaultChecked);
    for (const input of this.#captionSizes) if (!hasSize && input.value === size) input.checked = true;
    this.#remember();
  }
}

/** A list of devices, under the system's choice. */
class DevicePicker {
  onChoice: (id: string) => void = () => {};
  readonly #setting: HTMLElement;
  readonly #select: HTMLSelectElement;

  constructor(what: DeviceKind) {
    this.#setting = find(`#${what}-setting`);
    this.#select = find(`#${what}-choice`);
    this.#select.addEventListener("change", () => this.onChoice(this.#select.value));
  }

  get hasFocus(): boolean {
    return document.activeElement === this.#select;
  }

  set isHidden(isHidden: boolean) {
    this.#setting.hidden = isHidden;
  }

  focus(): void {
    this.#select.focus();
  }

  /** Leaves options alone that stay: one of them may be under the pointer. */
  show(devices: Device[], chosen: string): void {
    const [system, ...shown] = this.#select.options;
    if (!system) throw new Error("The list of devices has lost the system's choice.");
    for (const option of shown) if (!devices.some(({ id }) => id === option.value)) option.remove();
    let last = system;
    for (const { id, label } of devices) {
      let option = shown.find(({ value }) => value === id);
      if (!option) {
        option = build("option");
        option.value = id;
      }
      if (option.text !== label) option.text = label;
      if (last.nextElementSibling !== option) last.after(option);
      last = option;
    }
    this.#select.value = chosen;
  }
}
