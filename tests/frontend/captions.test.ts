import assert from "node:assert/strict";
import { test } from "node:test";
import {
  clockTime,
  cutCaption,
  type Line,
  outcome,
  placeOf,
  pretty,
  type Spoken,
  transcriptName,
  transcriptText,
  wordsAfter,
} from "../../sessions_app/frontend/captions";

const agent = (at_ms: number, isFinal = true): Spoken => ({ role: "agent", at_ms, isFinal });
const caller = (at_ms: number, isFinal = true): Spoken => ({ role: "caller", at_ms, isFinal });

test("an interruption cuts what the agent is saying, though the caller was heard meanwhile", () => {
  const speaking = agent(2000, false);
  assert.equal(cutCaption([agent(0), caller(1000), speaking]), speaking);
  assert.equal(cutCaption([speaking, caller(2500)]), speaking);
});

test("it cuts what the agent said last, while the words that cut in still change", () => {
  const said = agent(2000);
  assert.equal(cutCaption([caller(1000), said]), said);
  assert.equal(cutCaption([caller(1000), said, caller(2500, false)]), said);
});

test("a finished reply is not cut by an interruption of the reply after it, which had no words yet", () => {
  assert.equal(cutCaption([agent(0), caller(1000)]), undefined);
  assert.equal(cutCaption([agent(0), caller(1000), caller(2000, false)]), undefined);
});

test("captions count in the order of the conversation, not of their arrival", () => {
  const reply = agent(2000);
  assert.equal(cutCaption([reply, caller(1000)]), reply);
});

test("nothing is cut before the agent has said anything", () => {
  assert.equal(cutCaption([]), undefined);
  assert.equal(cutCaption([caller(0)]), undefined);
});

test("lines stand where they began, whenever they come; of two that began together the first stays first", () => {
  const lines = [{ at_ms: 0 }, { at_ms: 1000 }, { at_ms: 3000 }];
  assert.equal(placeOf(lines, 2000), 2);
  assert.equal(placeOf(lines, 1000), 2);
  assert.equal(placeOf(lines, 9000), 3);
  assert.equal(placeOf(lines, -1), 0);
  assert.equal(placeOf([], 0), 0);
});

test("an interim text is replaced, a final one goes on with what comes after it", () => {
  assert.equal(wordsAfter({ text: "I would lik", isFinal: false }, "I would like"), "I would like");
  assert.equal(wordsAfter({ text: "I would like", isFinal: true }, "a table."), "I would like a table.");
  assert.equal(wordsAfter({ text: "I would like", isFinal: true }, "I would like"), "I would like");
  assert.equal(wordsAfter({ text: "I would like", isFinal: true }, ""), "I would like");
});

test("the transcript tells who said what and when, what was cut, which tools ran, and what was shown", () => {
  const began = new Date(2026, 10, 23, 9, 5);
  const say = { kind: "say", isFinal: true, isCut: false } as const;
  const tool = { kind: "tool", name: "get_weather", arguments: { city: "Paris", days: 2 } } as const;
  const lines: Line[] = [
    { ...say, role: "agent", at_ms: 900, text: "Good evening." },
    { ...say, role: "caller", at_ms: 61_000, text: "The weather in Paris?" },
    { ...tool, at_ms: 62_500, output: '{"temperature_c": 18}', took_ms: 412 },
    { ...tool, at_ms: 63_000, output: '{"error": "No such place."}', took_ms: 20 },
    { ...tool, at_ms: 64_000, arguments: {} },
    { ...say, role: "agent", at_ms: 65_000, text: "It is eighteen", isCut: true },
    { kind: "list", at_ms: 65_000, title: "Cities", items: ["Paris", "Rome"] },
  ];
  assert.deepEqual(transcriptText(lines, "Concierge", began).split("\n"), [
    `Call with Concierge, ${began.toLocaleString()}`,
    "",
    "[0:00] Concierge: Good evening.",
    "[1:01] You: The weather in Paris?",
    '[1:02] Concierge used get_weather (city: Paris, days: 2), done in 0.4 s: {"temperature_c": 18}',
    '[1:03] Concierge used get_weather (city: Paris, days: 2), failed after 20 ms: {"error": "No such place."}',
    "[1:04] Concierge used get_weather, not answered",
    "[1:05] Concierge: It is eighteen — (cut off)",
    "[1:05] Cities: Paris, Rome",
    "",
  ]);
});

test("a tool that is waited for is running, and one that told no time is done all the same", () => {
  assert.equal(outcome({}, false), "running…");
  assert.equal(outcome({}), "not answered");
  assert.equal(outcome({ output: "sunny" }), "done");
  assert.equal(outcome({ output: '{"error": "no"}' }), "failed");
  assert.equal(outcome({ output: "sunny", took_ms: 12_340 }, false), "done in 12.3 s");
});

test("the transcript's file is named after the agent and the local time", () => {
  const began = new Date(2026, 0, 3, 9, 5);
  assert.equal(transcriptName("Concierge", began), "concierge-2026-01-03-0905.txt");
  assert.equal(transcriptName("Zoë & Co. / London", began), "zoë-co-london-2026-01-03-0905.txt");
  assert.equal(transcriptName("…", began), "call-2026-01-03-0905.txt");
});

test("what is no JSON is shown as it came", () => {
  assert.equal(pretty('{"a":1}'), '{\n  "a": 1\n}');
  assert.equal(pretty("sunny"), "sunny");
});

test("times are minutes and seconds", () => {
  assert.equal(clockTime(0), "0:00");
  assert.equal(clockTime(65_999), "1:05");
  assert.equal(clockTime(3_600_000), "60:00");
});
