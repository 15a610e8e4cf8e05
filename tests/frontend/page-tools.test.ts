import assert from "node:assert/strict";
import { test } from "node:test";
import { pageTools } from "../../sessions_app/frontend/page-tools";

function setUp() {
  const done: unknown[] = [];
  const tools = pageTools({
    setTheme: (theme) => done.push(theme),
    showList: (title, items) => done.push([title, items]),
  });
  return { done, run: (name: string, values: Record<string, unknown>) => tools[name]?.(values) };
}

test("the theme changes to dark or light, and to nothing else", () => {
  const { done, run } = setUp();
  assert.deepEqual(run("set_theme", { theme: "dark" }), { theme: "dark" });
  for (const theme of ["Dark", "blue", undefined, 1]) assert.ok(run("set_theme", { theme })?.error);
  assert.deepEqual(done, ["dark"]);
});

test("a list is shown, also if its items come as JSON text", () => {
  const { done, run } = setUp();
  assert.deepEqual(run("show_list", { title: "Fruit", items: ["apple", "pear"] }), { shown: 2 });
  assert.deepEqual(run("show_list", { title: "Fruit", items: '["fig"]' }), { shown: 1 });
  assert.deepEqual(done, [
    ["Fruit", ["apple", "pear"]],
    ["Fruit", ["fig"]],
  ]);
});

test("a list that cannot be shown is an error for the agent, and nothing appears", () => {
  const { done, run } = setUp();
  for (const items of [undefined, [], "apple, pear", [1], { 0: "apple" }, Array(51).fill("a")]) {
    assert.equal(typeof run("show_list", { title: "Fruit", items })?.error, "string");
  }
  assert.equal(typeof run("show_list", { items: ["apple"] })?.error, "string");
  assert.deepEqual(done, []);
});
