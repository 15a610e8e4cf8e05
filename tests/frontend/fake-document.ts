/** As much of a document as the settings and the keys of a call need: elements, events that bubble, and the focus. */

import type { TestContext } from "node:test";

/** Has `values` be global for as long as the test runs. */
export function replaceGlobals(context: TestContext, values: Record<string, unknown>): void {
  for (const [name, value] of Object.entries(values)) {
    const before = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
    context.after(() => {
      if (before) Object.defineProperty(globalThis, name, before);
      else Reflect.deleteProperty(globalThis, name);
    });
  }
}

type Listener = (event: FakeEvent) => unknown;
export type FakeEvent = Record<string, unknown> & {
  type: string;
  target: unknown;
  defaultPrevented: boolean;
};

export class FakeElement {
  readonly document: FakeDocument;
  readonly tagName: string;
  readonly attributes: Record<string, string>;
  readonly dataset: Record<string, string> = {};
  readonly listeners: [string, Listener][] = [];
  readonly style = new Map<string, string>() as Map<string, string> & {
    setProperty(name: string, value: string): void;
  };
  parent: FakeElement | undefined;
  children: FakeElement[] = [];
  hidden = false;
  ariaPressed: string | null = null;
  defaultChecked = false;
  text = "";
  #checked = false;

  constructor(document: FakeDocument, tagName: string, attributes: Record<string, string> = {}) {
    this.document = document;
    this.tagName = tagName;
    this.attributes = attributes;
    this.style.setProperty = (name, value) => this.style.set(name, value);
  }

  addEventListener(type: string, listener: Listener): void {
    this.listeners.push([type, listener]);
  }

  setAttribute(name: string, value: string): void {
    this.attributes[name] = value;
  }

  focus(): void {
    this.document.activeElement = this;
  }

  closest(selector: string): FakeElement | null {
    return matches(this, selector) ? this : (this.parent?.closest(selector) ?? null);
  }

  append(...children: FakeElement[]): void {
    for (const child of children) {
      child.remove();
      child.parent = this;
      this.children.push(child);
    }
  }

  after(sibling: FakeElement): void {
    sibling.remove();
    sibling.parent = this.parent;
    this.parent?.children.splice(this.parent.children.indexOf(this) + 1, 0, sibling);
  }

  remove(): void {
    if (this.parent) this.parent.children = this.parent.children.filter((child) => child !== this);
    this.parent = undefined;
  }

  get nextElementSibling(): FakeElement | null {
    const siblings = this.parent?.children ?? [];
    return siblings[siblings.indexOf(this) + 1] ?? null;
  }

  querySelectorAll(selector: string): FakeElement[] {
    return this.children.flatMap((child) => [
      ...(matches(child, selector) ? [child] : []),
      ...child.querySelectorAll(selector),
    ]);
  }

  /** Of a list of choices. */
  get options(): FakeElement[] {
    return this.children;
  }

  get value(): string {
    if (this.tagName !== "select") return this.attributes.value ?? "";
    return this.children.find(({ checked }) => checked)?.value ?? "";
  }

  set value(value: string) {
    if (this.tagName === "select")
      for (const option of this.children) option.#checked = option.value === value;
    else this.attributes.value = value;
  }

  /** Of a box, one of several, or an option. */
  get checked(): boolean {
    return this.#checked;
  }

  set checked(checked: boolean) {
    const { type, name } = this.attributes;
    if (type === "radio" && checked) {
      for (const other of this.document.body.querySelectorAll(`input[name=${name}]`)) other.#checked = false;
    }
    this.#checked = checked;
  }
}

export class FakeDocument {
  readonly listeners: [string, Listener][] = [];
  readonly body = new FakeElement(this, "body");
  activeElement = this.body;
  hidden = false;
  /** Those that watch the state of the call. */
  readonly observers: (() => void)[] = [];

  constructor(context: TestContext) {
    const { observers } = this;
    replaceGlobals(context, {
      document: this,
      Element: FakeElement,
      addEventListener: this.addEventListener.bind(this),
      MutationObserver: class {
        readonly #told: () => void;

        constructor(told: () => void) {
          this.#told = told;
        }

        observe(): void {
          observers.push(this.#told);
        }
      },
    });
  }

  /** Adds an element to the body, or to `parent`. */
  add(tagName: string, attributes: Record<string, string> = {}, parent = this.body): FakeElement {
    const element = new FakeElement(this, tagName, attributes);
    parent.append(element);
    return element;
  }

  createElement(tagName: string): FakeElement {
    return new FakeElement(this, tagName);
  }

  querySelector(selector: string): FakeElement | null {
    return this.querySelectorAll(selector)[0] ?? null;
  }

  querySelectorAll(selector: string): FakeElement[] {
    return this.body.querySelectorAll(selector);
  }

  addEventListener(type: string, listener: Listener): void {
    this.listeners.push([type, listener]);
  }

  /** Lets something happen to `target`, and to all that it is in. */
  fire(
    type: string,
    target: FakeElement = this.activeElement,
    more: Record<string, unknown> = {},
  ): FakeEvent {
    const event: FakeEvent = { type, target, defaultPrevented: false, timeStamp: 0, ...more };
    event.preventDefault = () => {
      event.defaultPrevented = true;
    };
    for (let at: FakeElement | undefined = target; at; at = at.parent) call(at.listeners, event);
    call(this.listeners, event);
    return event;
  }
}

function call(listeners: [string, Listener][], event: FakeEvent): void {
  for (const [type, listener] of [...listeners]) if (type === event.type) listener(event);
}

/** Lists of `tag#id[name=value]:not(…)`, each of which may stand inside another. */
function matches(element: FakeElement, selectors: string): boolean {
  return selectors.split(/,\s*(?![^(]*\))/).some((selector) => {
    const [own = "", ...outer] = selector.split(/\s+(?![^(]*\))/).reverse();
    const [, tag, id, conditions = "", not] =
      /^([a-z]+)?(?:#([\w-]+))?((?:\[[^\]]+\])*)(?::not\((.+)\))?$/.exec(own) ?? assertNever(own);
    return (
      (!tag || tag === element.tagName) &&
      (!id || id === element.attributes.id) &&
      [...conditions.matchAll(/\[([\w-]+)(?:=([\w-]+))?\]/g)].every(([, name = "", value]) =>
        value === undefined ? name in element.attributes : element.attributes[name] === value,
      ) &&
      !(not && matches(element, not)) &&
      (outer.length === 0 || element.parent?.closest(outer.reverse().join(" ")) != null)
    );
  });
}

function assertNever(selector: string): never {
  throw new Error(`The fake document does not understand ${selector}.`);
}
