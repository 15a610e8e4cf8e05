/** The errors of the SDK. None of them quotes a token, an address, or another library's text. */

import type { ConnectionErrorReason } from "livekit-client";

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
