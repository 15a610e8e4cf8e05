import assert from "node:assert/strict";
import { test } from "node:test";
import { cutCaption, type Spoken } from "../../sessions_app/frontend/captions";

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
