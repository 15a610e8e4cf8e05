import assert from "node:assert/strict";
import { test } from "node:test";
import { isErrorOutput, Timeline, toolCallOf, type WireMessage } from "../../sessions_app/frontend/events";
import { parseMessage } from "../../sessions_app/frontend/vatel-sdk/messages";
import frames from "../frames/frames.json";
import messages from "../frames/messages.json";

type Step = [at: number, type: string, data?: Record<string, unknown>];

/** Plays messages at their times; gives each text's time, by turn, and the order in which they would be read. */
function play(steps: Step[]): { times: Record<string, number>; order: string[] } {
  const timeline = new Timeline();
  const times: Record<string, number> = {};
  for (const [at, type, data = {}] of steps) {
    const { say } = timeline.place({ type, data }, at);
    if (say) times[say.turn] = say.at_ms;
  }
  return { times, order: Object.keys(times).sort((a, b) => (times[a] as number) - (times[b] as number)) };
}

const heard = (turn_id: string, is_final = true) => ({ transcript: "words", turn_id, is_final });
const spoken = (turn_id: string, is_final = true) => ({ text: "words", turn_id, is_final });

test("a transcript stands where the speech began that it renders", () => {
  const { times } = play([
    [1000, "speech_started"],
    [1800, "input_audio_transcript", heard("user-1", false)],
    [2500, "speech_stopped"],
    [3100, "input_audio_transcript", heard("user-1")],
  ]);
  assert.deepEqual(times, { "user-1": 1000 });
});

test("a question that is recognised after its answer has begun is read before the answer", () => {
  const { order } = play([
    [1000, "speech_started"],
    [2500, "speech_stopped"],
    [3000, "response_text", spoken("agent-1", false)],
    [3400, "input_audio_transcript", heard("user-1")],
    [5000, "response_text", spoken("agent-1")],
  ]);
  assert.deepEqual(order, ["user-1", "agent-1"]);
});

test("a barge-in is read after the reply that it cut", () => {
  const { times, order } = play([
    [1000, "response_text", spoken("agent-1", false)],
    [4000, "speech_started"],
    [4300, "interruption"],
    [4400, "response_text", spoken("agent-1")],
    [6000, "speech_stopped"],
    [6500, "input_audio_transcript", heard("user-1")],
  ]);
  assert.deepEqual(order, ["agent-1", "user-1"]);
  assert.equal(times["user-1"], 4000);
});

test("a pause inside a sentence does not move its beginning", () => {
  const { times } = play([
    [1000, "speech_started"],
    [2000, "speech_stopped"],
    [2600, "speech_started"],
    [4000, "speech_stopped"],
    [4500, "input_audio_transcript", heard("user-1")],
    [5000, "response_text", spoken("agent-1", false)],
    [6000, "speech_started"],
    [7000, "speech_stopped"],
    [7500, "input_audio_transcript", heard("user-2")],
  ]);
  assert.deepEqual(times, { "user-1": 1000, "agent-1": 5000, "user-2": 6000 });
});

test("a cough long before a sentence is not its beginning", () => {
  const { times } = play([
    [1000, "speech_started"],
    [1200, "speech_stopped"],
    [2000, "response_text", spoken("agent-1", false)],
    [20_000, "speech_started"],
    [22_000, "input_audio_transcript", heard("user-1")],
  ]);
  assert.equal(times["user-1"], 20_000);
});

test("who speaks on while the last sentence is recognised begins the next one there", () => {
  const { times } = play([
    [1000, "speech_started"],
    [3000, "speech_stopped"],
    [3500, "speech_started"],
    [4000, "input_audio_transcript", heard("user-1")],
    [6000, "input_audio_transcript", heard("user-2")],
  ]);
  assert.deepEqual(times, { "user-1": 1000, "user-2": 3500 });
});

test("a reply stands at its first words, a text without any sign before it at its arrival", () => {
  const { times } = play([
    [1000, "response_text", spoken("agent-1", false)],
    [3000, "response_text", spoken("agent-1")],
    [4000, "input_audio_transcript", heard("user-1")],
  ]);
  assert.deepEqual(times, { "agent-1": 1000, "user-1": 4000 });
});

/** What a final text tells of the length of its speech, after other messages. */
function took(steps: Step[]): unknown {
  const timeline = new Timeline();
  let last: unknown;
  for (const [at, type, data = {}] of steps) {
    const { entry } = timeline.place({ type, data }, at);
    if (entry && "turn_id" in data) last = entry.data.took_ms;
  }
  return last;
}

test("the caller's speech ends where it stopped, however late its words come", () => {
  const started: Step[] = [
    [1000, "speech_started"],
    [1800, "input_audio_transcript", heard("user-1", false)],
  ];
  const final: Step = [3100, "input_audio_transcript", heard("user-1")];
  assert.equal(took([...started, [2500, "speech_stopped"], final]), 1500);
  const pause: Step[] = [
    [2500, "speech_stopped"],
    [2600, "speech_started"],
    [2900, "speech_stopped"],
  ];
  assert.equal(took([...started, ...pause, final]), 1900);
});

test("the agent's speech ends when its text is complete", () => {
  assert.equal(
    took([
      [1000, "response_text", spoken("agent-1", false)],
      [3400.6, "response_text", spoken("agent-1")],
    ]),
    2401,
  );
});

test("a length that the page cannot know is not told", () => {
  assert.equal(took([[1000, "response_text", spoken("agent-1")]]), undefined);
  assert.equal(took([[1000, "input_audio_transcript", heard("user-1")]]), undefined);
  const earlier: Step[] = [
    [100, "speech_started"],
    [600, "speech_stopped"],
    [900, "input_audio_transcript", heard("user-1")],
  ];
  const neverStopped: Step[] = [
    [1000, "speech_started"],
    [2000, "input_audio_transcript", heard("user-2")],
  ];
  assert.equal(took([...earlier, ...neverStopped]), undefined);
});

test("turns without an id are told apart: each lasts until its final text", () => {
  const timeline = new Timeline();
  const turns = [false, true, true, false].map(
    (is_final) => timeline.place({ type: "response_text", data: { text: "a", is_final } }, 0).say?.turn,
  );
  assert.equal(turns[0], turns[1]);
  assert.equal(new Set(turns).size, 3);
});

test("a text without is_final is final, as on older platforms", () => {
  const placed = new Timeline().place({ type: "response_text", data: { text: "Hello." } }, 7);
  assert.equal(placed.say?.isFinal, true);
  assert.deepEqual(placed.entry, { at_ms: 7, type: "response_text", data: { text: "Hello." } });
});

for (const { name, message } of messages) {
  test(`from the room to the log: ${name}`, () => {
    const read = parseMessage(JSON.stringify(message)) as WireMessage;
    const { entry, interim } = new Timeline().place(read, 1234.5);
    const isInterim = "is_final" in read.data && read.data.is_final === false;
    assert.equal(interim !== undefined, isInterim);
    const line = entry ?? interim;
    assert.equal(line?.type, message.type);
    assert.equal(line?.at_ms, 1235);
    assert.deepEqual(line?.data, read.data);
    if (entry && "timestamp" in message) assert.equal(entry.timestamp, message.timestamp);
  });
}

for (const { name, frame } of frames) {
  if (frame.at_ms === undefined) continue; // a ping
  test(`a frame that the log takes is what the page makes: ${name}`, () => {
    const { seq, runs_on, ...rest } = frame as typeof frame & { seq?: number; runs_on?: string };
    const { entry, interim } = new Timeline().place(rest as WireMessage, frame.at_ms as number);
    assert.deepEqual(seq === undefined ? interim : entry, rest);
    assert.ok(runs_on === undefined || toolCallOf(rest as WireMessage, 0));
  });
}

test("a tool call's arguments are its values by name; those without a value are left out", () => {
  const data = {
    toolCallId: "call-1",
    toolName: "book_table",
    arguments: [{ name: "people", value: 4 }, { name: "name" }, { name: "day", value: "2026-03-02" }],
  };
  assert.deepEqual(toolCallOf({ type: "tool_call", data }, 40), {
    at_ms: 40,
    id: "call-1",
    name: "book_table",
    arguments: { people: 4, day: "2026-03-02" },
  });
});

test("an output is a failure only if it is an object with an error", () => {
  assert.equal(isErrorOutput('{"error":"no such city"}'), true);
  assert.deepEqual(
    ['{"city":"Rome"}', "fine", '"error"', "null", "[1]"].map(isErrorOutput),
    Array(5).fill(false),
  );
});
