import assert from "node:assert/strict";
import { test } from "node:test";
import { STALLED_AFTER_MS } from "../../sessions_app/frontend/vatel-sdk/inbox";
import { Call, settled } from "./vatel-sdk-room";

function reply(text: string) {
  return JSON.stringify({ type: "response_text", data: { text, turn_id: "agent-1", is_final: true } });
}

test("overlapping text streams are delivered in the order in which they were opened", async () => {
  const call = new Call();
  const room = await call.begin();
  const first = room.open().write('{"type":"response_text","data":{"text":"one",');
  const second = room.open();
  const third = room.open();
  third.write(reply("three")).close();
  second.write(reply("two")).close();
  await settled();
  assert.deepEqual(call.heard, []);
  first.write('"is_final":true}}').close();
  assert.deepEqual(
    (await call.hear(3)).map((message) => message.data.text),
    ["one", "two", "three"],
  );
});

test("a message that cannot be read is dropped and counted, and the next one arrives", async () => {
  const bad: [string, RegExp][] = [
    ["", /not JSON/],
    ["{not json", /not JSON/],
    ["null", /not a JSON object/],
    ["[1,2]", /not a JSON object/],
    ["{}", /no type/],
    ['{"type":5}', /no type/],
    ['{"type":"session_started","data":"secret"}', /data/],
    ['{"type":"response_text","data":{"text":7}}', /text/],
    ['{"type":"input_audio_transcript"}', /transcript/],
    ['{"type":"tool_call","data":{"toolName":"get_weather"}}', /id or a name/],
    ['{"type":"tool_call","data":{"toolCallId":"1"}}', /id or a name/],
    ['{"type":"disconnected","data":{}}', /only the session/],
    ['{"type":"*"}', /only the session/],
  ];
  const call = new Call();
  const room = await call.begin();
  for (const [text] of bad) room.say(text);
  room.say({ type: "session_ended" });
  const heard = await call.hear(bad.length + 1);
  for (const [index, [text, why]] of bad.entries()) {
    assert.equal(heard[index]?.type, "message_dropped", text);
    assert.equal(heard[index]?.data.count, index + 1);
    assert.match(String(heard[index]?.data.why), why);
    assert.doesNotMatch(String(heard[index]?.data.why), /secret/);
  }
  assert.deepEqual(heard.at(-1), { type: "session_ended", data: {} });
});

test("a stream that the sender's leaving cuts is dropped, and holds nothing back", async () => {
  const call = new Call();
  const room = await call.begin();
  const cut = room.open().write(reply("never finished").slice(0, 40));
  room.say({ type: "speech_stopped" });
  cut.cut();
  const heard = await call.hear(2);
  assert.deepEqual(heard[0], { type: "message_dropped", data: { count: 1, why: "it was cut off" } });
  assert.equal(heard[1]?.type, "speech_stopped");
});

test("a stream that is too long is dropped before it ends, and read to its end", async () => {
  const call = new Call();
  const room = await call.begin();
  const long = room.open();
  for (let chunk = 0; chunk < 5; chunk += 1) long.write("x".repeat(300_000));
  room.say({ type: "interruption" });
  const heard = await call.hear(2);
  assert.match(String(heard[0]?.data.why), /longer than/);
  assert.equal(heard[1]?.type, "interruption");
  long.write("more").close();
  await settled();
  assert.equal(call.heard.length, 2);
});

test("a stream that stands still does not hold back the ones after it for ever", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const call = new Call();
  const room = await call.begin();
  room.open().write('{"type":');
  room.say({ type: "speech_stopped" });
  await settled();
  assert.deepEqual(call.types(), []);
  context.mock.timers.tick(STALLED_AFTER_MS);
  assert.deepEqual(
    (await call.hear(2)).map((message) => message.type),
    ["message_dropped", "speech_stopped"],
  );
});

test("both spellings of a tool call come out the same, with its arguments", async () => {
  const call = new Call();
  const room = await call.begin();
  const city = { name: "city", type: "string", dataType: "string", required: true, value: "Oslo" };
  room.say({
    type: "tool_call",
    data: { toolCallId: "c1", toolName: "get_weather", arguments: [city], trace: "t" },
  });
  room.say({ type: "tool_call", data: { tool_call_id: "c1", tool_name: "get_weather", arguments: [city] } });
  room.say({ type: "tool_call", data: { tool_call_id: 7, toolName: "get_time" } });
  const [camel, snake, bare] = await call.hear(3);
  const expected = { toolCallId: "c1", toolName: "get_weather", arguments: [city] };
  assert.deepEqual(camel?.data, { ...expected, trace: "t" });
  assert.deepEqual(snake?.data, expected);
  assert.deepEqual(bare?.data, { toolCallId: "7", toolName: "get_time", arguments: [] });
});

test("a text without is_final is final; false is not; other keys are kept", async () => {
  const call = new Call();
  const room = await call.begin();
  room.say({
    type: "response_text",
    timestamp: "2026-01-02T03:04:05Z",
    data: { text: "Hello", mood: "good" },
  });
  room.say({ type: "input_audio_transcript", data: { transcript: "Hi", turn_id: 3, is_final: false } });
  const [older, interim] = await call.hear(2);
  assert.deepEqual(older, {
    type: "response_text",
    timestamp: "2026-01-02T03:04:05Z",
    data: { text: "Hello", mood: "good", is_final: true },
  });
  assert.deepEqual(interim, {
    type: "input_audio_transcript",
    data: { transcript: "Hi", turn_id: "3", is_final: false },
  });
});

test("a type that this version does not know reaches the handlers of that name", async () => {
  const call = new Call();
  const named: unknown[] = [];
  call.session.on("agent_mood", (message) => named.push(message.data.mood));
  const room = await call.begin();
  room.say({ type: "agent_mood", data: { mood: "cheerful" } });
  room.say({ type: "constructor", data: null });
  assert.deepEqual(await call.hear(2), [
    { type: "agent_mood", data: { mood: "cheerful" } },
    { type: "constructor", data: {} },
  ]);
  assert.deepEqual(named, ["cheerful"]);
});

test("a handler that throws or rejects is reported and stops nobody", async (context) => {
  const reported = context.mock.method(console, "error", () => {});
  const call = new Call();
  const reached: string[] = [];
  call.session.on("interruption", () => {
    throw new Error("thrown");
  });
  call.session.on("interruption", async () => {
    throw new Error("rejected");
  });
  call.session.on("interruption", () => reached.push("third"));
  const room = await call.begin();
  room.say({ type: "interruption" });
  room.say({ type: "interruption" });
  await call.hear(2);
  await settled();
  assert.deepEqual(reached, ["third", "third"]);
  assert.deepEqual(reported.mock.calls.map((each) => (each.arguments[0] as Error).message).sort(), [
    "rejected",
    "rejected",
    "thrown",
    "thrown",
  ]);
});

test("unsubscribing takes away that one handler only", async () => {
  const call = new Call();
  const reached: string[] = [];
  const handler = () => reached.push("same");
  const unsubscribe = call.session.on("speech_stopped", handler);
  call.session.on("speech_stopped", handler);
  unsubscribe();
  unsubscribe();
  const room = await call.begin();
  room.say({ type: "speech_stopped" });
  await call.hear(1);
  assert.deepEqual(reached, ["same"]);
});

test("messages and tool outputs go out in order, on the topic of the platform", async () => {
  const call = new Call();
  const room = await call.begin();
  await Promise.all([
    call.session.sendToolCallOutput("c1", '{"temperature_c":4}'),
    call.session.send({ type: "hello" }),
    call.session.sendToolCallOutput("c2", ""),
  ]);
  assert.deepEqual(room.sent, [
    'messages: {"type":"tool_call_output","data":{"toolCallId":"c1","output":"{\\"temperature_c\\":4}"}}',
    'messages: {"type":"hello"}',
    'messages: {"type":"tool_call_output","data":{"toolCallId":"c2","output":""}}',
  ]);
});

test("an output that is no string is refused, and so is sending without a call", async () => {
  const call = new Call();
  await assert.rejects(call.session.sendToolCallOutput("c1", "x"), { name: "NotConnectedError" });
  await call.begin();
  await assert.rejects(call.session.sendToolCallOutput("c1", { a: 1 } as unknown as string), TypeError);
  await assert.rejects(call.session.sendToolCallOutput("", "x"), TypeError);
  await call.session.disconnect();
  await assert.rejects(call.session.send({ type: "hello" }), { name: "NotConnectedError" });
});
