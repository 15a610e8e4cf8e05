// What can be seen to be wrong with a page, each as a list of sentences. Evaluated in the page.
window.eye = (() => {
  const CONTROLS = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']";
  const TARGET = 44;

  const isShown = (element) => element.checkVisibility({ visibilityProperty: true, contentVisibilityAuto: true });
  const controls = () => [...document.querySelectorAll(CONTROLS)].filter(isShown);
  const name = (element) =>
    (element.ariaLabel || element.labels?.[0]?.innerText || element.innerText || element.id || element.tagName)
      .trim()
      .replace(/\s+/g, " ");
  const call = (element) => `“${name(element).slice(0, 60)}”`;

  /** A label is a part of its field. */
  const areaOf = (element) => {
    const boxes = [element, ...(element.labels ?? [])].filter(isShown).map((e) => e.getBoundingClientRect());
    const left = Math.min(...boxes.map((b) => b.left));
    const top = Math.min(...boxes.map((b) => b.top));
    return {
      width: Math.max(...boxes.map((b) => b.right)) - left,
      height: Math.max(...boxes.map((b) => b.bottom)) - top,
    };
  };

  /** Text that only screen readers get. */
  const isUnseen = (element) => {
    const { width, height } = element.getBoundingClientRect();
    return width <= 1 || height <= 1;
  };

  const scrollerOf = (element) => {
    for (let e = element; e; e = e.parentElement) {
      if (/auto|scroll/.test(getComputedStyle(e).overflowY) && e !== document.body) return e;
    }
    return null;
  };

  /** What is left of a line in a box that ends it with an ellipsis. */
  const clipped = (box, element) => {
    if (getComputedStyle(element).textOverflow !== "ellipsis") return box;
    const { left, right } = element.getBoundingClientRect();
    return new DOMRect(Math.max(box.left, left), box.top, Math.min(box.right, right) - Math.max(box.left, left), box.height);
  };

  /** Every piece of text that can be seen, with the boxes of its lines. */
  const texts = () => {
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const element = node.parentElement;
      if (!node.data.trim() || !isShown(element) || isUnseen(element) || element.closest("option, noscript")) continue;
      const range = document.createRange();
      range.selectNodeContents(node);
      const boxes = [...range.getClientRects()]
        .map((box) => clipped(box, element))
        .filter(({ width, height }) => width > 0 && height > 0);
      if (boxes.length) found.push({ element, text: node.data.trim(), boxes });
    }
    return found;
  };

  const isClipping = (value) => value !== "visible";

  const measures = {
    /** Runs out of the page sideways. */
    wide() {
      const found = [];
      const width = document.documentElement.clientWidth;
      const { scrollWidth } = document.documentElement;
      if (scrollWidth > width) found.push(`the page is ${scrollWidth - width} px wider than the window`);
      for (const { element, text, boxes } of texts()) {
        if (boxes.some(({ left, right }) => left < -0.5 || right > width + 0.5)) {
          found.push(`“${text.slice(0, 60)}” runs out of the window`);
        }
      }
      return found;
    },

    /** Text that its box cuts off. */
    cut() {
      const found = [];
      for (const { element, text } of texts()) {
        for (let e = element; e && e !== document.body; e = e.parentElement) {
          const style = getComputedStyle(e);
          const isCutX = isClipping(style.overflowX) && style.textOverflow !== "ellipsis" && e.scrollWidth > e.clientWidth + 1;
          const isCutY = style.overflowY === "hidden" && e.scrollHeight > e.clientHeight + 1;
          if ((isCutX || isCutY) && e.clientWidth) {
            found.push(`“${text.slice(0, 60)}” is cut off by ${e.tagName.toLowerCase()}.${e.className}`);
            break;
          }
        }
      }
      return found;
    },

    /** Text on text. */
    overlapping() {
      const found = [];
      const inPopover = document.querySelector(":popover-open");
      const all = texts()
        .filter(({ element }) => !inPopover || inPopover.contains(element))
        .map((text) => ({ ...text, scroller: scrollerOf(text.element) }));
      for (const [i, one] of all.entries()) {
        for (const other of all.slice(i + 1)) {
          if (one.scroller !== other.scroller) continue;
          const isOn = one.boxes.some((a) =>
            other.boxes.some(
              (b) =>
                Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2 &&
                Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > Math.min(a.height, b.height) / 2,
            ),
          );
          if (isOn) found.push(`“${one.text.slice(0, 40)}” and “${other.text.slice(0, 40)}” overlap`);
        }
      }
      return found;
    },

    /** Too small for a finger. */
    small() {
      return controls().flatMap((element) => {
        const { width, height } = areaOf(element);
        if (width >= TARGET - 0.5 && height >= TARGET - 0.5) return [];
        return [`${call(element)} is ${width.toFixed(0)} × ${height.toFixed(0)} px`];
      });
    },

    /** Something lies on it even when it is scrolled to. */
    covered() {
      const found = [];
      const inPopover = document.querySelector(":popover-open");
      const scrolled = [document.scrollingElement, ...document.querySelectorAll("*")]
        .filter((e) => e.scrollTop)
        .map((e) => [e, e.scrollTop]);
      for (const element of controls()) {
        if (inPopover && !inPopover.contains(element)) continue;
        if (element.getAttribute("role") === "log") continue; // a region that scrolls, full of other things
        element.scrollIntoView({ block: "nearest", behavior: "instant" });
        const { left, top, width, height } = element.getBoundingClientRect();
        const hit = document.elementFromPoint(left + width / 2, top + height / 2);
        const isHit = hit && [element, ...(element.labels ?? [])].some((e) => e.contains(hit));
        if (!isHit) found.push(`${call(element)} is covered by ${hit?.outerHTML.slice(0, 80) ?? "the window's edge"}`);
      }
      document.scrollingElement.scrollTop = 0;
      for (const [element, top] of scrolled) element.scrollTop = top;
      return found;
    },

    /** The button that everything is about is out of sight. What a visitor agrees to may need more room. */
    away() {
      if (document.querySelector(":popover-open, #consent:not([hidden])")) return [];
      return [...document.querySelectorAll("#start, #hang-up")].filter(isShown).flatMap((button) => {
        const { bottom } = button.getBoundingClientRect();
        return bottom > innerHeight + 0.5 ? [`${call(button)} ends ${(bottom - innerHeight).toFixed(0)} px below`] : [];
      });
    },

    /** Moves by itself. */
    moving() {
      return document
        .getAnimations()
        .filter(({ playState }) => playState === "running")
        .map(({ effect, animationName, transitionProperty }) => {
          const { target, pseudoElement } = effect;
          const what = `${target.tagName.toLowerCase()}#${target.id}.${target.className}${pseudoElement ?? ""}`;
          return `${what} moves (${animationName ?? transitionProperty})`;
        });
    },
  };

  return {
    /** What is wrong by each measure. */
    look: () => Object.fromEntries(Object.entries(measures).map(([name, measure]) => [name, measure()])),

    /** Whoever uses a keyboard is at the page's top again. The first sight of a page has no focus yet. */
    unfocused() {
      const state = document.getElementById("talk")?.dataset.state ?? "idle";
      return state !== "idle" && document.activeElement === document.body ? ["the focus is lost"] : [];
    },

    /** Buttons and fields that are nothing but text once the browser has taken all their colours. */
    edgeless() {
      const hasEdge = (element) => {
        const { borderTopWidth, borderTopStyle, borderTopColor, outlineStyle } = getComputedStyle(element);
        const isDrawn = borderTopStyle !== "none" && Number.parseFloat(borderTopWidth) > 0;
        return (isDrawn && borderTopColor !== getComputedStyle(document.body).backgroundColor) || outlineStyle !== "none";
      };
      return controls()
        .filter((element) => element.matches("button, a.button, select, input:not([type=checkbox], [type=radio])"))
        .filter((element) => ![element, ...element.querySelectorAll("*")].some(hasEdge))
        .map((element) => `${call(element)} has no edge`);
    },

    /** All that can be read or pressed, whatever the window's size. Clocks go on; only wide pages have a lead. */
    said() {
      const lead = document.querySelector(".lead")?.innerText;
      const words = (document.querySelector("main")?.innerText ?? "").split("\n").filter((text) => text !== lead);
      return [...words, ...controls().map(name)]
        .map((text) => text.replace(/\d+/g, "0").replace(/\s+/g, " ").trim())
        .filter(Boolean)
        .sort();
    },
  };
})();
