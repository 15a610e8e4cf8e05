/** The browser's storage of that kind; null where the visitor forbids this site to keep anything. */
export function allowedStorage(kind: "sessionStorage" | "localStorage"): Storage | null {
  try {
    return window[kind];
  } catch {
    return null; // a SecurityError, at the mere mention of it
  }
}
