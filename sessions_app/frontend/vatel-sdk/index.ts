/** The browser side of a voice call: what pages import from "@vatel/sdk". */

export { ConnectionState, DisconnectReason } from "livekit-client";
export {
  type ConnectFailure,
  NotConnectedError,
  PlaybackBlockedError,
  SessionBusyError,
  VatelConnectError,
} from "./errors";
export {
  type LocalData,
  type MessageData,
  type MessageOf,
  type MessageType,
  type OutgoingMessage,
  type ToolArgument,
  type UnknownMessage,
  type VatelMessage,
  WEBRTC_MESSAGES_TOPIC,
  type WireData,
} from "./messages";
export {
  type ConnectOptions,
  DEFAULT_WEBRTC_SIGNALING_URL,
  type SessionOptions,
  TRANSPORT_WEBRTC,
  TRANSPORT_WEBSOCKET,
  WebRTCSession,
} from "./webrtc-session";
