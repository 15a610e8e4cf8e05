import assert from "node:assert/strict";
import { test } from "node:test";
import { Doorbell, insertionIndex, offset, type RowPlace } from "../../sessions_app/frontend/transcript-rows";

function place(atMs: number, source = "browser", seq = 1): RowPlace {
  return { atMs, source, seq };
}

/** Puts rows into a list one after another, as they arrive. */
function arrive(rows: RowPlace[]): RowPlace[] {
  const placed: RowPlace[] = [];
  for (const row of rows) placed.splice(insertionIndex(placed, row), 0, row);
  return placed;
}

function gate(): { opened: Promise<void>; open: () => void } {
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

test("a reply that was logged late stands where it began", () => {
  const [greeting, interruption, question] = [
    place(500, "browser", 9),
    place(4200, "browser", 7),
    place(4000, "browser", 8),
  ];
  assert.deepEqual(arrive([interruption, question, greeting]), [greeting, question, interruption]);
});

test("rows of the same moment go by source, then by number, not by text", () => {
  const [first, second, tenth] = [place(7, "browser", 1), place(7, "browser", 2), place(7, "browser", 10)];
  const [platform, server] = [place(7, "platform", 1), place(7, "server", 1)];
  const order = [first, second, tenth, platform, server];
  assert.deepEqual(arrive([tenth, server, second, platform, first]), order);
  assert.deepEqual(arrive(order), order);
});

test("offsets read as a clock", () => {
  assert.deepEqual([0, 999, 7400, 60_000, 754_000, 3_723_000].map(offset), [
    "0:00",
    "0:00",
    "0:07",
    "1:00",
    "12:34",
    "1:02:03",
  ]);
});

test("rings during an answer mean exactly one more", async () => {
  const first = gate();
  let answers = 0;
  const doorbell = new Doorbell(async () => {
    answers += 1;
    if (answers === 1) await first.opened;
  });
  const rung = doorbell.ring();
  await doorbell.ring();
  await doorbell.ring();
  assert.equal(answers, 1);
  first.open();
  await rung;
  assert.equal(answers, 2);
  await doorbell.ring();
  assert.equal(answers, 3);
});

test("an answer that fails tells its ringer, and the next ring is answered", async () => {
  let answers = 0;
  const doorbell = new Doorbell(async () => {
    answers += 1;
    if (answers === 1) throw new Error("no network");
  });
  await assert.rejects(doorbell.ring(), /no network/);
  await doorbell.ring();
  assert.equal(answers, 2);
});
