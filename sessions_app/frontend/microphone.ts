import { CallFailure, type FailureCode } from "./call-failures";

const CODES: Record<string, FailureCode> = {
  NotAllowedError: "microphone_denied",
  SecurityError: "microphone_denied",
  NotFoundError: "microphone_missing",
  OverconstrainedError: "microphone_missing",
  NotReadableError: "microphone_busy",
  AbortError: "microphone_busy",
};

/** What a browser's `window` has; `mediaDevices` is left out on plain-http pages, whatever its type says. */
export interface MicrophoneHost {
  isSecureContext: boolean;
  navigator: { mediaDevices?: Pick<MediaDevices, "getUserMedia"> };
}

/** Asks the visitor for the microphone. Throws a `CallFailure` that says why there is none. */
export async function openMicrophone(host: MicrophoneHost): Promise<MediaStreamTrack> {
  const devices = host.navigator.mediaDevices;
  if (!host.isSecureContext || !devices) throw new CallFailure("insecure_origin");
  let stream: MediaStream;
  try {
    stream = await devices.getUserMedia({
      audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
    });
  } catch (cause) {
    const name = cause instanceof Error ? cause.name : "";
    throw new CallFailure(CODES[name] ?? "microphone_failed", { cause });
  }
  const track = stream.getAudioTracks()[0];
  if (!track) throw new CallFailure("microphone_missing");
  return track;
}
