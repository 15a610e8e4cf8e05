import type { PageTools } from "./tool-calls";

/** What the page lets the agent do. */
export interface ToolPage {
  setTheme(theme: "dark" | "light"): void;
  showList(title: string, items: string[]): void;
}

const MAX_ITEMS = 50;

/** The tools that run in the page; every other one runs on the server. */
export function pageTools(page: ToolPage): PageTools {
  return {
    set_theme({ theme }) {
      if (theme !== "dark" && theme !== "light") return { error: 'The theme must be "dark" or "light".' };
      page.setTheme(theme);
      return { theme };
    },

    show_list({ title, items }) {
      const lines = readItems(items);
      if (typeof title !== "string" || !title.trim()) return { error: "The list needs a title." };
      if (!lines?.length) return { error: "The list needs items: an array of texts." };
      if (lines.length > MAX_ITEMS) return { error: `The list is too long: at most ${MAX_ITEMS} items.` };
      page.showList(title, lines);
      return { shown: lines.length };
    },
  };
}

/** Some agents send an array as its JSON text. */
function readItems(items: unknown): string[] | null {
  if (typeof items === "string") {
    try {
      return readItems(JSON.parse(items) as unknown);
    } catch {
      return null;
    }
  }
  return Array.isArray(items) && items.every((item) => typeof item === "string") ? items : null;
}
