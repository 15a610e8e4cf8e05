import assert from "node:assert/strict";
import { test } from "node:test";
import { TabLock } from "../../sessions_app/frontend/tab-lock";
import { settled } from "./fakes";

/** The Web Locks of one browser, as its tabs share them: one name, given, refused, stolen, and freed a moment later. */
class Locks {
  #steal: (() => void) | undefined;

  async request(
    name: string,
    { steal }: LockOptions,
    callback: (lock: { name: string } | null) => unknown,
  ): Promise<unknown> {
    await settled();
    if (this.#steal && !steal) return callback(null);
    this.#steal?.();
    let isStolen = false;
    const stolen = new Promise<never>((_, reject) => {
      this.#steal = () => {
        isStolen = true;
        reject(new DOMException("", "AbortError"));
      };
    });
    await Promise.race([callback({ name }), stolen]);
    await settled();
    if (!isStolen) this.#steal = undefined;
    return undefined;
  }

  async query(): Promise<LockManagerSnapshot> {
    return { held: this.#steal ? [{ name: "voicedemo.call" }] : [] };
  }
}

const inTab = (locks: Locks) => new TabLock(locks as unknown as LockManager);
const unexpected = () => assert.fail("the lock was lost");

test("a call keeps other tabs from starting one, until it ends", async () => {
  const browser = new Locks();
  const [one, other] = [inTab(browser), inTab(browser)];
  assert.equal(await one.take(false, unexpected), true);
  assert.equal(await other.take(false, unexpected), false);
  assert.equal(await other.isTaken(), true);
  one.release();
  await settled();
  await settled();
  assert.equal(await other.isTaken(), false);
  assert.equal(await other.take(false, unexpected), true);
});

test("on request the lock moves, and the tab that had it is told", async () => {
  const browser = new Locks();
  const [one, other] = [inTab(browser), inTab(browser)];
  let isLost = false;
  await one.take(false, () => {
    isLost = true;
  });
  assert.equal(await other.take(true, unexpected), true);
  await settled();
  assert.equal(isLost, true);
  one.release();
  assert.equal(await one.take(false, unexpected), false, "what was lost cannot be given back");
});

test("one tab's calls follow each other, however fast", async () => {
  const tab = inTab(new Locks());
  assert.equal(await tab.take(false, unexpected), true);
  tab.release();
  assert.equal(await tab.take(false, unexpected), true);
  assert.equal(await tab.take(false, unexpected), true);
});

test("a call that is given up before the browser has answered keeps no later one waiting", async () => {
  const tab = inTab(new Locks());
  const first = tab.take(false, unexpected);
  tab.release();
  const second = tab.take(false, unexpected);
  assert.equal(await first, false);
  assert.equal(await second, true);
});

test("without Web Locks, every tab may call", async () => {
  const tab = new TabLock(undefined);
  assert.equal(await tab.take(false, unexpected), true);
  assert.equal(await tab.isTaken(), false);
});
