/** A visitor's calls on this page: connects the call, the page, the devices and the log with each other. */

import type * as VatelSdk from "@vatel/sdk";
import { Call } from "./call";
import type { CallEvent, CallState, Notice, VoiceSession } from "./call-state";
import { browserClock } from "./clock";
import { type Device, type DeviceEvent, Devices } from "./devices";
import { LateModule } from "./late-module";
import { Levels } from "./levels";
import { microphonePermission, openMicrophone } from "./microphone";
import { mint } from "./mint";
import { pageTools } from "./page-tools";
import { Keys } from "./push-to-talk";
import { Relay } from "./relay";
import { SecondDoor } from "./second-door";
import { SettingsView } from "./settings-view";
import { CallFailure, SITUATIONS } from "./situations";
import { allowedStorage, remember } from "./storage";
import { TabLock } from "./tab-lock";
import { TalkPage } from "./talk-page";
import { postLeftovers, Unsent } from "./unsent";
import { VoiceView } from "./voice-view";
import { WakeLock } from "./wake-lock";

/** A question that nobody answers must not stand over the captions for the rest of the call. */
const OFFER_MS = 20_000;
/** Kept in the tab while a call goes on, so that a page which is loaded anew can say what became of it. */
const LEFT_KEY = "voicedemo.left";

export class Conversation {
  readonly #tabStorage = allowedStorage("sessionStorage");
  readonly #page = new TalkPage({
    onStart: ({ here }) => this.start(here),
    onHangUp: () => this.#call.hangUp(),
    onMute: (isMuted) => void this.#call.setMuted(isMuted),
    onNotice: (notice) => this.#act(notice),
  });
  readonly #settings = new SettingsView({
    onDevice: (what, id) => void this.#use(what, id),
    onPushToTalk: (isOn) => this.#keys.setPushToTalk(isOn),
    onCaptionSize: (captionSize) => this.#page.showDisplay({ captionSize }),
  });
  readonly #keys = new Keys({
    isLive: () => this.#call.state.name === "live",
    onMute: (isMuted) => void this.#call.setMuted(isMuted),
    onToggleMute: () => this.#toggleMute(),
    onHangUp: () => this.#call.hangUp(),
  });
  readonly #devices = new Devices({
    media: navigator.mediaDevices,
    storage: allowedStorage("localStorage"),
    isLive: () => this.#call.state.name === "live",
    emit: (event) => this.#hearOfDevices(event),
  });
  readonly #voices = new VoiceView(this.#page.main);
  readonly #wakeLock = new WakeLock();
  readonly #tabLock = new TabLock(navigator.locks);
  readonly #sdk = new LateModule<typeof VatelSdk>(this.#page.main.dataset.sdkUrl ?? "");
  readonly #secondDoor: SecondDoor;
  readonly #call: Call;
  /** Of all calls of this page load, the newest last. */
  readonly #relays = new Map<string, Relay>();
  readonly #offers: Partial<Record<"microphone" | "speaker", Device>> = {};
  /** Names this page load: a call's log takes reports of one page only. (`randomUUID` is for secure pages.) */
  readonly #pageId = Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) =>
    part.toString(16).padStart(8, "0"),
  ).join("");
  #levels: Levels | undefined;

  constructor() {
    const { mintUrl = "", agentId = "", consent } = this.#page.main.dataset;
    const csrf = document.querySelector<HTMLMetaElement>("meta[name=csrf-token]")?.content ?? "";
    this.#secondDoor = new SecondDoor(mintUrl, csrf);
    this.#call = new Call({
      clock: browserClock,
      lock: this.#tabLock,
      isMicrophoneGranted: async () => (await microphonePermission(window)) === "granted",
      openMicrophone: (id = this.#devices.microphone) => openMicrophone(window, id),
      mint: () => mint(mintUrl, csrf, { agent_id: agentId, ...(consent ? { consent } : {}) }),
      loadSdk: () => this.#loadSdk(),
      tools: pageTools(this.#page),
      emit: (event) => this.#handle(event),
    });
    this.#keys.setPushToTalk(this.#settings.pushToTalk);
    this.#page.showDisplay({ captionSize: this.#settings.captionSize });
    void this.#devices.refresh(); // the id of a remembered device may have changed since the last visit
    this.#listen();
    if (!isSecureContext) this.#page.showState({ name: "failed", code: "insecure_origin" });
    void this.#tellOfLeftCall();
    this.#loadSdk().catch(() => undefined); // tried again by the click, which tells of it
    void postLeftovers(this.#tabStorage, this.#secondDoor);
  }

  /** Call it inside a click. `here`: in the place of a call in another tab. */
  start(here = false): void {
    void this.#call.start({ here, isMuted: this.#settings.pushToTalk });
  }

  #handle(event: CallEvent): void {
    switch (event.kind) {
      case "state":
        this.#showState(event.state);
        break;
      case "microphone":
        this.#levels?.setMicrophone(event.track);
        if (event.track) void this.#devices.refresh(); // from now on the browser tells their names
        break;
      case "said":
        this.#page.showSay(event.say);
        break;
      case "interrupted":
        this.#page.showInterruption();
        break;
      case "tool":
        this.#page.showTool(event.call, event.output, event.took_ms);
        break;
      case "opened":
        this.#page.showSession(event.credential.session);
        this.#openRelay(event.credential.session, event.credential.relay_url);
        break;
      case "entry":
        this.#relays.get(event.session)?.record(event.entry);
        break;
      case "interim":
        this.#relays.get(event.session)?.interim(event.interim);
        break;
      case "closed":
        this.#relays.get(event.session)?.finish();
        break;
    }
  }

  #showState(state: CallState): void {
    const wasLive = this.#page.main.dataset.state === "live";
    this.#page.showState(state);
    const isLive = state.name === "live";
    this.#wakeLock.want(isLive);
    if (this.#isUnderWay(state)) {
      remember(this.#tabStorage, LEFT_KEY, "yes");
      // Inside the click: a browser that holds back the sound holds back the measuring too.
      this.#levels ??= new Levels(this.#page.remoteAudioContainer);
    } else {
      remember(this.#tabStorage, LEFT_KEY, "");
      this.#voices.stop();
      this.#levels?.close();
      this.#levels = undefined;
    }
    if (isLive && !wasLive) this.#goLive();
  }

  #isUnderWay({ name }: CallState): boolean {
    return name === "microphone" || name === "connecting" || name === "live";
  }

  #goLive(): void {
    if (this.#levels) this.#voices.start(this.#levels);
    if (this.#devices.speaker) void this.#call.useSpeaker(this.#devices.speaker);
  }

  /** What a notice's button does. */
  #act({ code }: Notice): void {
    switch (SITUATIONS[code].action) {
      case "unblock":
        void this.#call.unblockPlayback();
        break;
      case "microphone":
        void this.#call.useMicrophone();
        break;
      case "device": {
        const what = code === "microphone_offered" ? "microphone" : "speaker";
        const device = this.#offers[what];
        this.#call.settle(code);
        if (device) void this.#use(what, device.id);
        break;
      }
      case "dismiss":
        this.#call.settle(code);
        break;
    }
  }

  /** Remembers a device once it has proved to work. */
  async #use(what: "microphone" | "speaker", id: string): Promise<void> {
    const isUsable = await (what === "microphone" ? this.#call.useMicrophone(id) : this.#call.useSpeaker(id));
    if (isUsable) this.#devices.choose(what, id);
    else await this.#devices.refresh(); // shows again what is in use
  }

  #hearOfDevices(event: DeviceEvent): void {
    switch (event.kind) {
      case "list":
        this.#settings.showDevices(event.list);
        break;
      case "offered":
        this.#offers[event.what] = event.device;
        this.#call.notice({ code: `${event.what}_offered`, detail: event.device.label });
        setTimeout(() => this.#call.settle(`${event.what}_offered`), OFFER_MS); // it stays in the settings
        break;
      case "gone":
        // Of a microphone the session itself tells, which hears its end.
        if (event.what === "microphone") break;
        this.#call.notice({ code: "speaker_gone", detail: event.label });
        void this.#call.useSpeaker("");
        break;
    }
  }

  #toggleMute(): void {
    const { state } = this.#call;
    if (state.name === "live") void this.#call.setMuted(!state.isMuted);
  }

  #openRelay(session: string, path: string): void {
    const url = new URL(path, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    url.searchParams.set("page", this.#pageId);
    this.#relays.set(
      session,
      new Relay({
        clock: browserClock,
        openSocket: () => new WebSocket(url),
        unsent: new Unsent(session, this.#tabStorage, this.#secondDoor),
        onToolOutput: (toolCallId, output) => this.#call.answerTool(toolCallId, output),
        onStanding: (standing) => this.#page.showStanding(session, standing),
      }),
    );
  }

  async #loadSdk(): Promise<() => VoiceSession> {
    const { WebRTCSession } = await this.#sdk.load().catch((cause: unknown) => {
      throw new CallFailure("site_unreachable", { cause });
    });
    return () => new WebRTCSession({ remoteAudioContainer: this.#page.remoteAudioContainer });
  }

  async #tellOfLeftCall(): Promise<void> {
    if (!this.#tabStorage?.getItem(LEFT_KEY)) return;
    remember(this.#tabStorage, LEFT_KEY, "");
    // A tab that was duplicated has the first one's storage, whose call goes on.
    if (await this.#tabLock.isTaken()) return;
    if (this.#isUnderWay(this.#call.state)) return; // by a quick click, meanwhile
    this.#page.showState({ name: "failed", code: "page_left" });
  }

  #listen(): void {
    addEventListener("pagehide", () => this.#leave());
    // Phones end hidden pages without another word. The call goes on, so nothing else is concluded from this.
    addEventListener("visibilitychange", () => {
      if (document.visibilityState === "hidden") for (const relay of this.#relays.values()) relay.hide();
      else this.#call.pageShown();
    });
    addEventListener("online", () => {
      for (const relay of this.#relays.values()) relay.reconnectNow();
    });
    // Out of the browser's back/forward cache, the page stands as it was left.
    addEventListener("pageshow", ({ persisted }) => {
      if (persisted) void this.#tellOfLeftCall();
    });
  }

  #leave(): void {
    const left = this.#tabStorage?.getItem(LEFT_KEY);
    this.#call.hangUp("page_closed"); // the session leaves on this event too; a page that comes back starts anew
    if (left) remember(this.#tabStorage, LEFT_KEY, left);
    // The newest call first, should there be more than browsers let a page leave behind.
    for (const relay of [...this.#relays.values()].reverse()) relay.leave();
  }
}
