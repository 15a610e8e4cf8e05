/** A fetch that hangs would hold up all that follow it. */
const LIMIT_MS = 15_000;

/** The server will not serve this reader any more; another try would not help. */
export class Refused extends Error {}

/** Fetches a part of the page. Throws Refused where the reader must sign in anew, or may not see it any more. */
export async function fetchFragment(url: URL): Promise<{ headers: Headers; fragment: Document }> {
  // A reader who was signed out is redirected to the login page.
  const response = await fetch(url, { redirect: "manual", signal: AbortSignal.timeout(LIMIT_MS) });
  if (response.type === "opaqueredirect" || response.status === 403) throw new Refused();
  if (!response.ok) throw new Error(`${url.pathname} answered ${response.status}.`);
  const fragment = new DOMParser().parseFromString(await response.text(), "text/html");
  return { headers: response.headers, fragment };
}
