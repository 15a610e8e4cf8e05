/**
 * The talk page's entry, and all of its script before a click: it fetches the rest (conversation.ts and the SDK) as
 * soon as a call is likely, and hands the page over to it.
 */

import { site_unreachable } from "../situations.json";
import type * as ConversationModule from "./conversation";
import type { Conversation } from "./conversation";
import { find } from "./elements";
import { LateModule } from "./late-module";
import { allowedStorage } from "./storage";

const main = find("#talk");
const start = find("#start");
const hangUp = find("#hang-up");
const { conversationUrl = "", sdkUrl = "", mediaOrigins = "" } = main.dataset;

const script = new LateModule<typeof ConversationModule>(conversationUrl);
let conversation: Conversation | undefined;
let isWanted = false;

/** Once it is loaded, the page is the conversation's. */
async function load(): Promise<Conversation> {
  const { Conversation } = await script.load();
  if (!conversation) {
    start.removeEventListener("click", begin);
    hangUp.removeEventListener("click", giveUp);
    conversation = new Conversation();
  }
  return conversation;
}

function prepare(): void {
  if (script.isLoading) return;
  for (const origin of mediaOrigins.split(" ").filter(Boolean)) link("preconnect", origin);
  link("modulepreload", sdkUrl);
  load().catch(() => undefined); // the click tries again, and tells of it
}

function link(rel: string, href: string): void {
  document.head.append(Object.assign(document.createElement("link"), { rel, href }));
}

function begin(): void {
  isWanted = true;
  show("loading", "Starting…");
  load().then(
    (conversation) => isWanted && conversation.start(),
    () => isWanted && showFailure(),
  );
}

function giveUp({ detail }: MouseEvent): void {
  if (detail > 1) return; // the second click of a double click on the start button, in whose place this one stands
  isWanted = false;
  show("idle", "Ready when you are.");
}

function show(state: "idle" | "loading" | "failed", words: string): void {
  main.dataset.state = state;
  main.dataset.situation = state === "failed" ? "site_unreachable" : "";
  find("#status").textContent = words;
  find("#failure > *").hidden = state !== "failed";
  start.hidden = state === "loading";
  hangUp.hidden = state !== "loading";
  (state === "loading" ? hangUp : start).focus();
}

function showFailure(): void {
  isWanted = false;
  show("failed", "Not connected.");
  find("#failure h2").textContent = site_unreachable.title;
  find("#failure p").textContent = site_unreachable.sentence;
  find("#start span").textContent = "Try again";
}

// A key that is held down would press the button that has taken the place of the first one.
find(".dock").addEventListener("keydown", (event) => {
  if (event.repeat && event.key === "Enter") event.preventDefault();
});
start.addEventListener("click", begin);
hangUp.addEventListener("click", giveUp);
for (const button of [start, find("[popovertarget=settings]")]) {
  for (const sign of ["pointerenter", "pointerdown", "touchstart", "focus"]) {
    button.addEventListener(sign, prepare, { passive: true });
  }
}

const theme = allowedStorage("localStorage")?.getItem("theme");
if (theme) document.documentElement.dataset.theme = theme;

// An earlier page load has left something to be sent or to be told of, or no call is possible here at all.
const leftOver = Object.keys(allowedStorage("sessionStorage") ?? {});
if (!isSecureContext || leftOver.some((key) => key.startsWith("voicedemo."))) prepare();
