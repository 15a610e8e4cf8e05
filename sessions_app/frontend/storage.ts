/** The browser's storage of that kind; null where the visitor forbids this site to keep anything. */
export function allowedStorage(kind: "sessionStorage" | "localStorage"): Storage | null {
  try {
    return window[kind];
  } catch {
    return null; // a SecurityError, at the mere mention of it
  }
}

/** Keeps a setting for the next visit; "" forgets it. A storage that is full forgets it too: it is a comfort only. */
export function remember(storage: Storage | null, key: string, value: string): void {
  try {
    if (value) storage?.setItem(key, value);
    else storage?.removeItem(key);
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
  }
}
