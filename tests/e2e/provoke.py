"""Ways to make a browser's devices, sound and network fail: init scripts, flags, CDP commands."""

from __future__ import annotations

from typing import Literal

from playwright.sync_api import Browser, BrowserContext, CDPSession, Page, Route

OWN_DEVICES = ["--use-fake-device-for-media-stream"]
"""Three microphones, of which each beeps once a second. Who asks is answered by the context's permissions."""
INSECURE_HOST = "insecure.test"
INSECURE = f"--host-resolver-rules=MAP {INSECURE_HOST} 127.0.0.1"
PERMISSIONS = ["microphone", "screen-wake-lock"]  # granting any denies all that are not named

# ------------------------------------------------------------------ what a page has open

WITNESS = """(() => {
  const seen = window.witness = { tracks: [], connections: [], rooms: 0 };
  const media = navigator.mediaDevices;
  if (media) {
    const open = media.getUserMedia.bind(media);
    media.getUserMedia = async (wanted) => {
      const stream = await open(wanted);
      seen.tracks.push(...stream.getAudioTracks());
      return stream;
    };
  }
  const Connection = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Connection {
    constructor(...all) { super(...all); seen.connections.push(this); }
  };
  const Socket = window.WebSocket;
  window.WebSocket = class extends Socket {
    constructor(url, ...rest) {
      super(url, ...rest);
      if (String(url).includes("/rtc")) seen.rooms += 1;
    }
  };
})()"""
"""Keeps what the page opens. Before all other scripts, so that what these hand out is seen, too."""

LEFT_OPEN = """() => {
  // Without a description it has opened no port. LiveKit forgets those of cancelled joins.
  const isOpen = (connection) => connection.localDescription && connection.signalingState !== "closed";
  return [
    ...witness.tracks.filter((track) => track.readyState === "live").map(() => "a microphone"),
    ...witness.connections.filter(isOpen).map(() => "a connection"),
    ...[...document.querySelectorAll("#remote-audio audio")].map(() => "a voice"),
  ];
}"""

HEARS = """async () => {
  let energy = 0;
  for (const connection of witness.connections) {
    if (connection.connectionState === "closed") continue;
    for (const stats of (await connection.getStats()).values()) {
      if (stats.type === "inbound-rtp" && stats.kind === "audio") energy += stats.totalAudioEnergy ?? 0;
    }
  }
  return energy;
}"""
"""How much sound has been received: it grows while the agent is heard."""

# ------------------------------------------------------------------ the microphone


def microphone_fails(name: str, message: str = "provoked", *, times: int = 1_000) -> str:
    """The first so many requests fail."""
    return f"""(() => {{
      const media = navigator.mediaDevices, open = media.getUserMedia.bind(media);
      let left = {times};
      media.getUserMedia = async (wanted) => {{
        if (left-- > 0) throw new DOMException({message!r}, {name!r});
        return open(wanted);
      }};
    }})()"""


PROMPT_OPEN = """(() => {
  const media = navigator.mediaDevices, open = media.getUserMedia.bind(media);
  const asked = [];
  media.getUserMedia = (wanted) => new Promise((resolve, reject) => {
    asked.push(() => open(wanted).then(resolve, reject));
  });
  window.isPromptOpen = () => asked.length > 0;
  window.answerPrompt = () => {
    media.getUserMedia = open;
    for (const answer of asked.splice(0)) answer();
  };
})()"""
"""Headless browsers answer each prompt at once; with this it is open until `answerPrompt()` allows it."""

SILENT_MICROPHONE = """(() => {
  const media = navigator.mediaDevices;
  let context, gain;
  media.getUserMedia = async () => {
    context ??= new AudioContext();
    const end = context.createMediaStreamDestination();
    const source = context.createOscillator();
    gain = context.createGain();
    gain.gain.value = 0;
    source.connect(gain).connect(end);
    source.start();
    await context.resume();
    witness.tracks.push(...end.stream.getAudioTracks());
    return end.stream;
  };
  window.unmuteMicrophone = () => { gain.gain.value = 0.5; };
})()"""

MICROPHONE_TO_PLUG_IN = """(() => {
  const media = navigator.mediaDevices, open = media.getUserMedia.bind(media);
  window.plugIn = () => {
    media.getUserMedia = async () => {
      const context = new AudioContext();
      const end = context.createMediaStreamDestination();
      const source = context.createOscillator();
      source.connect(end);
      source.start();
      await context.resume();
      witness.tracks.push(...end.stream.getAudioTracks());
      return end.stream;
    };
  };
})()"""
"""For a browser without devices: until `plugIn()` it finds none by itself, then there is one that sounds."""

HARDWARE_SWITCH = """(() => {
  window.switchMicrophone = (isOn) => {
    const track = witness.tracks.at(-1);
    Object.defineProperty(track, "muted", { configurable: true, get: () => !isOn });
    track.dispatchEvent(new Event(isOn ? "unmute" : "mute"));
  };
})()"""
"""What a page is told of a switch on the headset; headless browsers have none."""

DEVICES = """(() => {
  const media = navigator.mediaDevices, open = media.getUserMedia.bind(media);
  const device = (kind, deviceId, label) => ({ kind, deviceId, label, groupId: "" });
  const all = window.devices = {
    list: [device("audioinput", "default", "Default"), device("audioinput", "desk", "Desk microphone"),
           device("audiooutput", "default", "Default"), device("audiooutput", "boxes", "Boxes")],
    broken: new Set(),
    sinks: [],
    plug(kind, deviceId, label) {
      all.list.push(device(kind, deviceId, label));
      media.dispatchEvent(new Event("devicechange"));
    },
    unplug(...ids) {
      all.list = all.list.filter(({ deviceId }) => !ids.includes(deviceId));
      for (const track of witness.tracks) {
        if (track.readyState !== "live" || !ids.includes(track.device)) continue;
        track.stop();
        track.dispatchEvent(new Event("ended"));
      }
      media.dispatchEvent(new Event("devicechange"));
    },
  };
  const wantedId = (id) => typeof id === "object" && id ? (id.exact ?? id.ideal) : id;
  const known = (kind, id) => all.list.some((d) => d.kind === kind && d.deviceId === id);
  media.enumerateDevices = async () => [...all.list];
  media.getUserMedia = async (wanted) => {
    const constraint = wanted?.audio?.deviceId;
    const id = [wantedId(constraint)].flat()[0] || "default";
    const actual = known("audioinput", id) ? id : all.list.find((d) => d.kind === "audioinput")?.deviceId;
    if (!actual) throw new DOMException("Requested device not found", "NotFoundError");
    if (actual !== id && constraint?.exact) throw new OverconstrainedError("deviceId", "");
    if (all.broken.has(actual)) throw new DOMException("Could not start audio source", "NotReadableError");
    const { deviceId, ...rest } = wanted.audio === true ? {} : wanted.audio;
    const stream = await open({ audio: rest });
    for (const track of stream.getAudioTracks()) {
      track.device = actual;
      const settings = track.getSettings.bind(track);
      track.getSettings = () => ({ ...settings(), deviceId: actual });
    }
    return stream;
  };
  const setSinkId = HTMLMediaElement.prototype.setSinkId;
  HTMLMediaElement.prototype.setSinkId = async function (id) {
    if (id && !known("audiooutput", id)) throw new DOMException("Device not found", "NotFoundError");
    if (all.broken.has(id)) throw new DOMException("The operation failed", "AbortError");
    all.sinks.push(id);
    return setSinkId.call(this, "");
  };
})()"""
"""Headless browsers have no plugs: the list of devices is the test's, the sound is the fake device's."""

# ------------------------------------------------------------------ the sound

PLAY_BLOCKED = """(() => {
  const play = HTMLMediaElement.prototype.play;
  let isAllowed = false;
  addEventListener("click", (event) => { isAllowed ||= Boolean(event.target.closest("#notice")); }, true);
  HTMLMediaElement.prototype.play = function () {
    if (isAllowed) return play.call(this);
    this.pause();
    return Promise.reject(new DOMException("provoked", "NotAllowedError"));
  };
})()"""
"""After the click on "Start" Chromium blocks nothing any more; with this it wants one more, in the notice."""

# ------------------------------------------------------------------ the network

NO_MEDIA_PATH = """(() => {
  const Connection = window.RTCPeerConnection;
  let policy = "relay";
  window.openTheWall = () => { policy = "all"; };
  const relayed = (config) => ({ ...config, iceTransportPolicy: policy });
  window.RTCPeerConnection = class extends Connection {
    constructor(config = {}, ...rest) { super(relayed(config), ...rest); }
    setConfiguration(config) { return super.setConfiguration(relayed(config)); }
  };
})()"""
"""Sound may only go through a relay, and there is none: a firewall that lets nothing but the web through.
Until `openTheWall()`."""


# ------------------------------------------------------------------ by the browser's own means


def cdp(page: Page) -> CDPSession:
    return page.context.new_cdp_session(page)


def set_microphone_permission(
    browser: Browser, page: Page, setting: Literal["granted", "denied", "prompt"]
) -> None:
    """As in the browser's site settings; also in mid-call, where "denied" ends the running microphone."""
    target = cdp(page).send("Target.getTargetInfo")["targetInfo"]
    origin = "/".join(page.url.split("/")[:3])
    browser.new_browser_cdp_session().send(
        "Browser.setPermission",
        {
            "permission": {"name": "microphone"},
            "setting": setting,
            "origin": origin,
            "browserContextId": target["browserContextId"],
        },
    )


def add_headers(context: BrowserContext, url: str, headers: dict[str, str]) -> None:
    """Answer what matches `url` with further headers."""

    def handle(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, headers={**answer.headers, **headers})

    context.route(url, handle)


def freeze(page: Page) -> None:
    """What a page is told before the browser stops it for good, which headless browsers never do."""
    page.evaluate("() => document.dispatchEvent(new Event('freeze', { bubbles: true }))")
