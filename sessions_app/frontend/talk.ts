/** The talk page's entry: wires the call to the page and to the log, nothing else. */

import type * as VatelSdk from "@vatel/sdk";
import { Call, type CallEvent, type VoiceSession } from "./call";
import { CallFailure } from "./call-failures";
import { browserClock } from "./clock";
import { openMicrophone } from "./microphone";
import { mint } from "./mint";
import { pageTools } from "./page-tools";
import { Relay } from "./relay";
import { allowedStorage } from "./storage";
import { TalkPage } from "./talk-page";
import { type PostFrames, postLeftovers, Unsent } from "./unsent";

const page = new TalkPage({
  onIntent: () => void loadSdk().catch(() => undefined), // tried again by the click, which tells of it
  onStart: (agentId) => void call.start(agentId),
  onHangUp: () => call.hangUp(),
  onMute: (isMuted) => void call.setMuted(isMuted),
  onUnblockPlayback: () => void call.unblockPlayback(),
});

const tabStorage = allowedStorage("sessionStorage");
const relays = new Map<string, Relay>();

const call = new Call({
  clock: browserClock,
  openMicrophone: () => openMicrophone(window),
  mint: (agentId) => mint(page.mintUrl, page.csrfToken, agentId),
  loadSdk,
  tools: pageTools(page),
  emit: handle,
});

function handle(event: CallEvent): void {
  switch (event.kind) {
    case "state":
      page.showState(event.state);
      break;
    case "said":
      page.showSay(event.say);
      break;
    case "interrupted":
      page.showInterruption();
      break;
    case "tool":
      page.showTool(event.call, event.output);
      break;
    case "opened":
      page.showSession(event.credential.session);
      openRelay(event.credential.session, event.credential.relay_url);
      break;
    case "entry":
      relays.get(event.session)?.record(event.entry);
      break;
    case "interim":
      relays.get(event.session)?.interim(event.interim);
      break;
    case "closed":
      relays.get(event.session)?.finish();
      break;
  }
}

function openRelay(session: string, path: string): void {
  const url = new URL(path, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  relays.set(
    session,
    new Relay({
      clock: browserClock,
      openSocket: () => new WebSocket(url),
      unsent: new Unsent(session, tabStorage, postFrames),
      onToolOutput: (toolCallId, output) => call.answerTool(toolCallId, output),
    }),
  );
}

let sdk: Promise<() => VoiceSession> | undefined;
let loads = 0;

function loadSdk(): Promise<() => VoiceSession> {
  // Browsers remember a module that failed to load; another address makes them ask again.
  const url = loads === 0 ? page.sdkUrl : `${page.sdkUrl}?again=${loads}`;
  sdk ??= import(url).then(
    ({ WebRTCSession }: typeof VatelSdk) =>
      () =>
        new WebRTCSession({ remoteAudioContainer: page.remoteAudioContainer }),
    (cause: unknown) => {
      sdk = undefined;
      loads += 1;
      throw new CallFailure("site_unreachable", { cause });
    },
  );
  return sdk;
}

const postFrames: PostFrames = async (session, body, { keepalive }) => {
  const response = await fetch(`${page.mintUrl}${session}/events/`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRFToken": page.csrfToken },
    body,
    keepalive,
  });
  const { error, ack } = (await response.json()) as { error?: { code?: unknown }; ack?: number };
  return { code: error?.code, ack };
};

addEventListener("pagehide", () => {
  call.hangUp(); // the media room leaves on this event too; a page that comes back starts anew
  for (const relay of relays.values()) relay.leave();
});
addEventListener("online", () => {
  for (const relay of relays.values()) relay.reconnectNow();
});

void postLeftovers(tabStorage, postFrames);
