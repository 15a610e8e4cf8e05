import assert from "node:assert/strict";
import { test } from "node:test";
import { Backoff } from "../../sessions_app/frontend/backoff";

function waits(random: number, count: number): number[] {
  const backoff = new Backoff(() => random);
  return Array.from({ length: count }, () => backoff.next());
}

test("waits grow, from a quarter of a second to ten seconds at most", () => {
  assert.deepEqual(waits(1, 8), [500, 1000, 2000, 4000, 8000, 10_000, 10_000, 10_000]);
});

test("chance may shorten every wait to the shortest one, so that pages do not come back together", () => {
  assert.deepEqual(waits(0, 3), [250, 250, 250]);
});

test("a success makes the next wait short again", () => {
  const backoff = new Backoff(() => 1);
  backoff.next();
  backoff.next();
  backoff.reset();
  assert.equal(backoff.next(), 500);
});

test("a first wait may be spread as wide as a later one, and the next ones go on from there", () => {
  const backoff = new Backoff(() => 1);
  assert.deepEqual([backoff.next(3), backoff.next(), backoff.next(3)], [2000, 4000, 8000]);
});
