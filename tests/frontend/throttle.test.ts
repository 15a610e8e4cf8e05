import assert from "node:assert/strict";
import { test } from "node:test";
import { Throttle } from "../../sessions_app/frontend/throttle";
import { FakeClock, settled } from "./fakes";

function counter(clock: FakeClock): { throttle: Throttle; done: () => number } {
  let done = 0;
  const throttle = new Throttle(clock, 3000, async () => {
    done += 1;
  });
  return { throttle, done: () => done };
}

test("what is asked for once is done at once", () => {
  const { throttle, done } = counter(new FakeClock());
  throttle.ask();
  assert.equal(done(), 1);
});

test("what is asked for many times is done once more, after a rest", async () => {
  const clock = new FakeClock();
  const { throttle, done } = counter(clock);
  for (let asked = 0; asked < 5; asked += 1) throttle.ask();
  await settled();
  await clock.pass(2999);
  assert.equal(done(), 1);
  await clock.pass(1);
  assert.equal(done(), 2);
  await clock.pass(10_000);
  assert.equal(done(), 2, "nobody has asked since");
  throttle.ask();
  assert.equal(done(), 3);
});

test("a slow task is not done twice at a time, and rests after its end", async () => {
  const clock = new FakeClock();
  const ends: (() => void)[] = [];
  const throttle = new Throttle(clock, 3000, () => new Promise<void>((end) => ends.push(end)));
  throttle.ask();
  throttle.ask();
  await clock.pass(60_000);
  assert.equal(ends.length, 1);
  ends[0]?.();
  await settled();
  await clock.pass(2999);
  assert.equal(ends.length, 1);
  await clock.pass(1);
  assert.equal(ends.length, 2);
});
