import { CallFailure, isSiteCode } from "./situations";

/** What the site gives a caller for one call. */
export interface Credential {
  session: string;
  relay_url: string;
  webrtc_token: string;
  url: string;
  room: string;
  identity: string;
}

/** The page's word to the site: which agent, and which version of the consent's text the visitor has agreed to. */
export interface MintRequest {
  agent_id: string;
  consent?: string;
}

/** The site itself waits for the platform and answers in its own time; this is for a network that swallows. */
const LIMIT_MS = 30_000;

/** Asks the site for a new call. Throws a `CallFailure` with the site's code and sentence, or `site_unreachable`. */
export async function mint(url: string, csrfToken: string, request: MintRequest): Promise<Credential> {
  let status: number;
  let answer: unknown;
  try {
    const response = await fetch(url, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRFToken": csrfToken },
      body: JSON.stringify(request),
      signal: AbortSignal.timeout(LIMIT_MS),
    });
    status = response.status;
    answer = await response.json();
  } catch (cause) {
    throw new CallFailure("site_unreachable", { cause });
  }
  if (status === 201) return answer as Credential;
  const { code, message } = (answer as { error?: { code?: unknown; message?: unknown } } | null)?.error ?? {};
  if (isSiteCode(code) && typeof message === "string") {
    // What is wrong with a request is for whoever has written it; the visitor can only load the page anew.
    throw new CallFailure(code, code === "bad_request" ? {} : { sentence: message });
  }
  throw new CallFailure("site_unreachable");
}
