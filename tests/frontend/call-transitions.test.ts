/** Every state of a call × everything that can happen in it: where it leads, that no state is without an exit. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { CallFailure, SITUATIONS } from "../../sessions_app/frontend/situations";
import { connectError, deferred, type FakeSession, live, setUp, tool } from "./call-world";
import { settled } from "./fakes";

type It = ReturnType<typeof setUp>;
/** What the outside world still owes to a call; the events settle it. */
interface Owed {
  grant: ReturnType<typeof deferred<void>>;
  mint: ReturnType<typeof deferred<void>>;
  join: ReturnType<typeof deferred<void>>;
}

/** A call whose microphone, credential and connection wait for the test. */
function waiting(): { it: It; owed: Owed } {
  const it = setUp();
  const owed: Owed = { grant: deferred(), mint: deferred(), join: deferred() };
  const { mint } = it.world;
  it.world.grant = () => owed.grant.promise;
  it.world.mint = async () => {
    await owed.mint.promise;
    return mint();
  };
  it.world.prepare = (session) => {
    session.connecting = () => owed.join.promise;
  };
  for (const { promise } of Object.values(owed)) promise.catch(() => undefined);
  return { it, owed };
}

async function started(...given: (keyof Owed)[]): Promise<{ it: It; owed: Owed }> {
  const { it, owed } = waiting();
  void it.call.start();
  await settled();
  for (const what of given) {
    owed[what].resolve();
    await settled();
  }
  return { it, owed };
}

async function inCall(prepare: (it: It) => unknown = () => undefined): Promise<{ it: It; owed: Owed }> {
  const it = await live();
  await prepare(it);
  return { it, owed: waiting().owed };
}

const STATES: Record<string, () => Promise<{ it: It; owed: Owed }>> = {
  idle: async () => waiting(),
  "microphone, asked": () => started(),
  "microphone, unanswered": async () => {
    const { it, owed } = await started();
    await it.clock.pass(8_000);
    return { it, owed };
  },
  "connecting, minting": () => started("grant"),
  "connecting, joining": () => started("grant", "mint"),
  live: () => inCall(),
  "live, muted": () => inCall((it) => it.call.setMuted(true)),
  "live, reconnecting": () => inCall((it) => it.session.tell("reconnecting")),
  "live, microphone lost": () => inCall((it) => it.session.tell("microphone_lost")),
  "live, agent gone for good": () => inCall((it) => it.session.tell("session_ended")),
  ended: () => inCall((it) => it.call.hangUp()),
  failed: () => inCall((it) => it.session.tell("disconnected", {})),
};

const told =
  (type: string, data = {}) =>
  (it: It) =>
    (it.session as FakeSession | undefined)?.tell(type, data);

const EVENTS: Record<string, (it: It, owed: Owed) => unknown> = {
  start: (it) => void it.call.start(),
  "start here": (it) => void it.call.start({ here: true }),
  "hang up": (it) => it.call.hangUp(),
  "page closes": (it) => it.call.hangUp("page_closed"),
  mute: (it) => it.call.setMuted(true),
  unmute: (it) => it.call.setMuted(false),
  "another microphone": (it) => void it.call.useMicrophone("headset"),
  "another speaker": (it) => it.call.useSpeaker("desk"),
  unblock: (it) => it.call.unblockPlayback(),
  notice: (it) => it.call.notice({ code: "speaker_gone", detail: "Desk" }),
  settle: (it) => it.call.settle("speaker_gone"),
  "page shown": (it) => it.call.pageShown(),
  "device slept": (it) => {
    it.clock.sleep(600_000);
    it.call.pageShown();
  },
  "tool answered": (it) => it.call.answerTool("call-1", "{}"),
  "another tab takes over": (it) => it.lock.lose(),
  "microphone granted": (_, owed) => owed.grant.resolve(),
  "microphone refused": (_, owed) => owed.grant.reject(new CallFailure("microphone_denied")),
  "credential given": (_, owed) => owed.mint.resolve(),
  "credential refused": (_, owed) => owed.mint.reject(new CallFailure("platform_busy")),
  joined: (_, owed) => owed.join.resolve(),
  "join failed": (_, owed) => owed.join.reject(connectError("no_media")),
  "a minute passes": (it) => it.clock.pass(60_000),
  disconnected: told("disconnected", {}),
  "room closed": told("disconnected", { reason: 5 }),
  "agent left": told("disconnected", { agent_left: true }),
  "agent says goodbye": told("session_ended"),
  "tool called": told("tool_call", tool("call-9", "set_theme", { theme: "dark" })),
  "caller speaks": told("speech_started"),
  "caller stops": told("speech_stopped"),
  "agent speaks": told("response_text", { text: "Hi", is_final: false }),
  "agent has spoken": told("response_text", { text: "Hi.", is_final: true }),
  "caller's words": told("input_audio_transcript", { transcript: "Hi", is_final: true }),
  interruption: told("interruption"),
  ...Object.fromEntries(
    Object.entries(SITUATIONS)
      .filter(([, { kind }]) => kind === "notice")
      .map(([code]) => [code, told(code)]),
  ),
  reconnected: told("reconnected"),
  "playback allowed": told("playback_allowed"),
  "microphone restored": told("microphone_restored"),
  "something new": told("a_message_of_tomorrow", { of: "another kind" }),
};

/** Where an event leads from a state; whatever is not named leaves the state's name as it is. */
const LEADS: Record<string, Record<string, string>> = {
  idle: { start: "microphone", "start here": "microphone" },
  "microphone, asked": {
    "hang up": "ended",
    "page closes": "ended",
    "another tab takes over": "failed",
    "microphone granted": "connecting",
    "microphone refused": "failed",
    "a minute passes": "failed",
  },
  "connecting, minting": {
    "hang up": "ended",
    "page closes": "ended",
    "another tab takes over": "failed",
    "credential refused": "failed",
  },
  "connecting, joining": {
    "hang up": "ended",
    "page closes": "ended",
    "another tab takes over": "failed",
    joined: "live",
    "join failed": "failed",
    disconnected: "failed",
    "room closed": "failed",
    "agent left": "failed",
    "agent says goodbye": "connecting",
  },
  live: {
    "hang up": "ended",
    "page closes": "ended",
    "another tab takes over": "failed",
    disconnected: "failed",
    "room closed": "failed",
    "agent left": "failed",
  },
  "live, agent gone for good": {
    "hang up": "ended",
    "page closes": "ended",
    "another tab takes over": "failed",
    disconnected: "ended",
    "room closed": "ended",
    "agent left": "ended",
    "a minute passes": "ended",
  },
  ended: { start: "microphone", "start here": "microphone" },
  failed: { start: "microphone", "start here": "microphone" },
};
LEADS["microphone, unanswered"] = LEADS["microphone, asked"] ?? {};
for (const name of ["muted", "reconnecting", "microphone lost"]) LEADS[`live, ${name}`] = LEADS.live ?? {};

const kind = setUp().world;
const isOver = (it: It) => ["idle", "ended", "failed"].includes(it.call.state.name);

for (const [state, reach] of Object.entries(STATES)) {
  test(`in the state "${state}" every event leads where it should, and a way out stays open`, async (t) => {
    t.mock.method(console, "error", () => undefined);
    for (const [event, happen] of Object.entries(EVENTS)) {
      const { it, owed } = await reach();
      const before = it.call.state.name;
      if (state === "ended" || state === "failed") {
        // The next call is to wait as well, to be seen on its way.
        it.world.grant = () => owed.grant.promise;
      }
      await happen(it, owed);
      await settled();
      assert.equal(it.call.state.name, LEADS[state]?.[event] ?? before, `${state} × ${event}`);
      if (isOver(it)) it.assertClosed();

      it.call.hangUp();
      assert.equal(isOver(it), true, `${state} × ${event}: a hang-up ends it`);
      // What the world owed comes too late: it is closed, and disturbs nobody.
      for (const { resolve } of Object.values(owed)) resolve();
      await settled();
      await settled();
      it.assertClosed();
      Object.assign(it.world, { grant: async () => undefined, mint: kind.mint, prepare: () => undefined });
      await it.call.start();
      assert.equal(it.call.state.name, "live", `${state} × ${event}: and the next call works`);
      it.call.hangUp();
    }
  });
}
