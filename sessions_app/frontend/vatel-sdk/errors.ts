/** The errors of the SDK. None of them quotes a token, an address, or another library's text. */

import { ConnectionError, ConnectionErrorReason } from "livekit-client";

/**
 * Why a call could not be joined.
 * - `refused`: the media server does not accept the token (401, 403);
 * - `unreachable`: nothing there that speaks the protocol;
 * - `timeout`: no answer in time;
 * - `no_media`: the server answered, but no way was found for the sound (firewall, VPN);
 * - `cancelled`: `disconnect()` was called meanwhile;
 * - `failed`: anything else, a wrong argument too.
 */
export type ConnectFailure = "refused" | "unreachable" | "timeout" | "no_media" | "cancelled" | "failed";

/** `connect()` failed. Nothing of the attempt is left open. */
export class VatelConnectError extends Error {
  override readonly name = "VatelConnectError";
  readonly code: ConnectFailure;
  /** HTTP status, where the server gave one. */
  readonly status?: number;
  /** LiveKit's number for the failure, where it gave one. */
  readonly reason?: ConnectionErrorReason;

  constructor(
    code: ConnectFailure,
    message: string,
    details: { status?: number; reason?: ConnectionErrorReason } = {},
  ) {
    super(message);
    this.code = code;
    if (details.status !== undefined) this.status = details.status;
    if (details.reason !== undefined) this.reason = details.reason;
  }
}

export function cancelled(): VatelConnectError {
  return new VatelConnectError("cancelled", "The call was ended while it was being joined.");
}

export function kickedOut(): VatelConnectError {
  return new VatelConnectError("failed", "The media server ended the call while it was being joined.");
}

export function unanswered(details = {}): VatelConnectError {
  return new VatelConnectError("timeout", "The media server did not answer in time.", details);
}

export function noMedia(details = {}): VatelConnectError {
  return new VatelConnectError(
    "no_media",
    "The media server answered, but no sound can get through.",
    details,
  );
}

/** What LiveKit's error means, by its number: its names are often wrong, and its texts quote the token. */
export function connectError(error: unknown, isSignalled: boolean): VatelConnectError {
  if (error instanceof VatelConnectError) return error;
  if (!(error instanceof ConnectionError)) {
    return new VatelConnectError("failed", "The call could not be joined.");
  }
  const details = { reason: error.reason, status: error.status };
  switch (error.reason) {
    case ConnectionErrorReason.NotAllowed:
      return new VatelConnectError("refused", "The media server did not accept the token.", details);
    case ConnectionErrorReason.Timeout:
      return unanswered(details);
    case ConnectionErrorReason.ServerUnreachable:
    case ConnectionErrorReason.WebSocket:
    case ConnectionErrorReason.ServiceNotFound:
      return new VatelConnectError("unreachable", "The media server cannot be reached.", details);
  }
  if (isSignalled && error.reason === ConnectionErrorReason.InternalError) return noMedia(details);
  return new VatelConnectError("failed", "The call could not be joined.", details);
}

/** `connect()` was called while the session was connecting or connected. The running call is not touched. */
export class SessionBusyError extends Error {
  override readonly name = "SessionBusyError";

  constructor() {
    super("This session is already in a call: call disconnect() first.");
  }
}

/** Something was asked for that needs a call, and there is none, or it ended before it was done. */
export class NotConnectedError extends Error {
  override readonly name = "NotConnectedError";

  constructor() {
    super("This session is not in a call: wait for connect() first.");
  }
}

/** The browser refused to play sound; it wants `start()` to be called inside a click. */
export class PlaybackBlockedError extends Error {
  override readonly name = "PlaybackBlockedError";
  readonly code = "playback_blocked";

  constructor() {
    super("The browser blocks the sound: call start() inside a click or a key press.");
  }
}
