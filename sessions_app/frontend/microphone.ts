import { CallFailure, type SituationCode } from "./situations";

const CODES: Record<string, SituationCode> = {
  SecurityError: "microphone_policy",
  NotFoundError: "microphone_missing",
  OverconstrainedError: "microphone_missing",
  NotReadableError: "microphone_busy",
  AbortError: "microphone_busy",
};

/** What a browser's `window` has; `mediaDevices` is left out on plain-http pages, whatever its type says. */
export interface MicrophoneHost {
  isSecureContext: boolean;
  navigator: {
    mediaDevices?: Pick<MediaDevices, "getUserMedia">;
    permissions?: Pick<Permissions, "query">;
  };
  document: object;
}

/** Chromium's; TypeScript's `Document` does not know it. */
interface WithPolicy {
  featurePolicy?: { allowsFeature(name: string): boolean };
}

/** Whether the browser will give a microphone without asking; undefined: it does not tell. */
export async function microphonePermission({
  navigator,
}: MicrophoneHost): Promise<PermissionState | undefined> {
  try {
    return (await navigator.permissions?.query({ name: "microphone" }))?.state;
  } catch {
    return undefined; // not every browser knows this permission
  }
}

/**
 * Asks the visitor for the microphone; `deviceId` is the one that they chose earlier, "" the system's. One that is
 * away now gives its place to the system's. Throws a `CallFailure` that says why there is none.
 */
export async function openMicrophone(host: MicrophoneHost, deviceId = ""): Promise<MediaStreamTrack> {
  const devices = host.navigator.mediaDevices;
  if (!host.isSecureContext || !devices) throw new CallFailure("insecure_origin");
  const audio: MediaTrackConstraints = {
    echoCancellation: true,
    noiseSuppression: true,
    autoGainControl: true,
  };
  if (deviceId) audio.deviceId = { exact: deviceId };
  let stream: MediaStream;
  try {
    stream = await devices.getUserMedia({ audio });
  } catch (cause) {
    const name = cause instanceof Error ? cause.name : "";
    if (deviceId && (name === "OverconstrainedError" || name === "NotFoundError"))
      return openMicrophone(host);
    throw new CallFailure(
      name === "NotAllowedError" ? await denial(host, cause) : (CODES[name] ?? "microphone_failed"),
      { cause },
    );
  }
  const track = stream.getAudioTracks()[0];
  if (!track) throw new CallFailure("microphone_missing");
  return track;
}

/** One error stands for all that can forbid a microphone. */
async function denial(host: MicrophoneHost, cause: unknown): Promise<SituationCode> {
  const { featurePolicy }: WithPolicy = host.document;
  if (featurePolicy?.allowsFeature("microphone") === false) return "microphone_policy";
  if (/system/i.test(String(cause))) return "microphone_blocked_by_system"; // Chromium: "Permission denied by system"
  const permission = await microphonePermission(host);
  if (permission === "denied") return "microphone_blocked";
  // Allowed for the site, and yet refused: browsers that do not know `featurePolicy` have the policy, too.
  return permission === "granted" ? "microphone_policy" : "microphone_denied";
}
