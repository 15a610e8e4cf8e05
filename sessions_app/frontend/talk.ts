/** The talk page's entry: wires the call to the page and to the log, nothing else. */

import type * as VatelSdk from "@vatel/sdk";
import { Call, type CallEvent, type VoiceSession } from "./call";
import { CallFailure } from "./call-failures";
import { browserClock } from "./clock";
import { openMicrophone } from "./microphone";
import { mint } from "./mint";
import { pageTools } from "./page-tools";
import { Relay } from "./relay";
import { SecondDoor } from "./second-door";
import { allowedStorage } from "./storage";
import { TalkPage } from "./talk-page";
import { postLeftovers, Unsent } from "./unsent";

const page = new TalkPage({
  onIntent: () => void loadSdk().catch(() => undefined), // tried again by the click, which tells of it
  onStart: (agentId) => void call.start(agentId),
  onHangUp: () => call.hangUp(),
  onMute: (isMuted) => void call.setMuted(isMuted),
  onUnblockPlayback: () => void call.unblockPlayback(),
});

const tabStorage = allowedStorage("sessionStorage");
const secondDoor = new SecondDoor(page.mintUrl, page.csrfToken);
/** Of all calls of this page load, the newest last. */
const relays = new Map<string, Relay>();
/** Names this page load: a call's log takes reports of one page only. (`randomUUID` is for secure pages.) */
const pageId = Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) =>
  part.toString(16).padStart(8, "0"),
).join("");

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
  url.searchParams.set("page", pageId);
  relays.set(
    session,
    new Relay({
      clock: browserClock,
      openSocket: () => new WebSocket(url),
      unsent: new Unsent(session, tabStorage, secondDoor),
      onToolOutput: (toolCallId, output) => call.answerTool(toolCallId, output),
      onStanding: (standing) => page.showStanding(session, standing),
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

addEventListener("pagehide", () => {
  call.hangUp("page_closed"); // the session leaves on this event too; a page that comes back starts anew
  // The newest call first, should there be more than browsers let a page leave behind.
  for (const relay of [...relays.values()].reverse()) relay.leave();
});
// Phones end hidden pages without another word. The call goes on, so nothing else is concluded from this.
addEventListener("visibilitychange", () => {
  if (document.visibilityState === "hidden") for (const relay of relays.values()) relay.hide();
});
addEventListener("online", () => {
  for (const relay of relays.values()) relay.reconnectNow();
});

void postLeftovers(tabStorage, secondDoor);
