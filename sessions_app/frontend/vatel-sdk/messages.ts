/** What the platform and the page say to each other: the messages, and how they are read off the wire. */

import type { DisconnectReason } from "livekit-client";

/** Topic of the text streams that carry the messages, one JSON object in each stream. */
export const WEBRTC_MESSAGES_TOPIC = "messages";

/** One argument of a tool call, with the descriptor that the agent was configured with. */
export interface ToolArgument {
  name: string;
  type?: string;
  dataType?: string;
  description?: string;
  required?: boolean;
  /** Left out when the agent has no value for an optional argument. */
  value?: unknown;
}

type NoData = Record<string, unknown>;

/** `data` of the messages that come from the agent, by their `type`. */
export interface WireData {
  /** `id` is the call's id on the platform; "" if the platform named none. */
  session_started: { id: string };
  session_ended: NoData;
  /** Until `is_final`, each text replaces the one before it of the same turn. */
  response_text: { text: string; turn_id?: string; is_final: boolean };
  input_audio_transcript: { transcript: string; turn_id?: string; is_final: boolean };
  /** `emulated`: the voice detection heard nothing, but a transcript came. */
  speech_started: { emulated: boolean };
  speech_stopped: NoData;
  /** The caller cut the agent off. */
  interruption: NoData;
  tool_call: { toolCallId: string; toolName: string; arguments: ToolArgument[] };
}

/** `data` of the messages that the session itself makes; the wire cannot forge them. */
export interface LocalData {
  /** Somebody else is in the call. Once for each connection, as are all that tell of a beginning. */
  agent_here: NoData;
  /** The agent's sound arrives, be it silence. */
  agent_voice: NoData;
  /** The agent's texts come, but for 5 s nothing is heard of it. */
  agent_unheard: NoData;
  agent_heard: NoData;
  /** For 2 s nothing came from the media server, which LiveKit has not noticed yet. */
  connection_poor: NoData;
  connection_good: NoData;
  /** LiveKit has noticed, and tries to get the connection back. */
  reconnecting: NoData;
  reconnected: NoData;
  /**
   * Once for each connection that was made. `reason`: LiveKit's number, if it gave one. `agent_left`: the session
   * hung up because the agent had gone; `gave_up`: because nothing had come for 25 s.
   */
  disconnected: { reason?: DisconnectReason; agent_left?: true; gave_up?: true };
  /** The browser wants a click before it plays sound: call `start()` in one. */
  playback_blocked: NoData;
  playback_allowed: NoData;
  /** The agent hears nothing although the page has not muted: device gone, permission withdrawn, muted elsewhere. */
  microphone_lost: NoData;
  /** The same, by a switch on the device or by the system. */
  microphone_muted_by_hardware: NoData;
  /** Ends both. */
  microphone_restored: NoData;
  /** The device is gone and another one took over. `label`: its name. */
  microphone_switched: { label: string };
  /** Not muted, but for 5 s no sound at all comes from it: not even the hiss of a room. */
  microphone_silent: NoData;
  microphone_heard: NoData;
  /**
   * The first sound of the agent's voice since the line opened, or since the caller's `speech_stopped`, as it is
   * played here. `ago_ms`: how long before this message it began.
   */
  reply_audible: { ago_ms: number };
  /** A message was not delivered. `count`: how many in this connection so far; `why`: a sentence, without content. */
  message_dropped: { count: number; why: string };
}

export type MessageData = WireData & LocalData;
export type MessageType = keyof MessageData;

/** The message of one type; a union of types gives the union of their messages. */
export type MessageOf<Type extends MessageType> = {
  [T in Type]: { type: T; timestamp?: string; data: MessageData[T] };
}[Type];

/** Every message that this version knows, told apart by the literal `type`. */
export type VatelMessage = MessageOf<MessageType>;

/** A message of a type that this version does not know. */
export interface UnknownMessage {
  type: string;
  timestamp?: string;
  data: Record<string, unknown>;
}

/** A message from the page to the agent. */
export interface OutgoingMessage {
  type: string;
  timestamp?: string;
  data?: Record<string, unknown>;
}

/** A message that cannot be delivered. The text says why, and never quotes the message. */
export class BadMessage extends Error {
  override readonly name = "BadMessage";
}

type Json = Record<string, unknown>;

const LOCAL_TYPES: ReadonlySet<string> = new Set<keyof LocalData>([
  "agent_here",
  "agent_voice",
  "agent_unheard",
  "agent_heard",
  "connection_poor",
  "connection_good",
  "reconnecting",
  "reconnected",
  "disconnected",
  "playback_blocked",
  "playback_allowed",
  "microphone_lost",
  "microphone_muted_by_hardware",
  "microphone_restored",
  "microphone_switched",
  "microphone_silent",
  "microphone_heard",
  "reply_audible",
  "message_dropped",
]);

const READ_DATA: { [Type in keyof WireData]?: (data: Json) => WireData[Type] } = {
  session_started: (data) => ({ ...data, id: readId(data.id) ?? "" }),
  response_text: (data) => ({ ...readTurn(data), text: readString(data, "text") }),
  input_audio_transcript: (data) => ({ ...readTurn(data), transcript: readString(data, "transcript") }),
  speech_started: (data) => ({ ...data, emulated: data.emulated === true }),
  tool_call: readToolCall,
};

/**
 * Read one message off the wire. What builds of the platform spell differently comes out the same (`toolCallId`,
 * `is_final` always given, `data` always an object); keys that this version does not know are kept.
 *
 * @throws BadMessage if it is not JSON, has no `type`, or lacks what its type cannot do without.
 */
export function parseMessage(text: string): VatelMessage | UnknownMessage {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new BadMessage("it is not JSON");
  }
  if (!isObject(json)) throw new BadMessage("it is not a JSON object");
  const { type, timestamp, data = {} } = json;
  if (typeof type !== "string" || type === "") throw new BadMessage("it has no type");
  if (type === "*" || LOCAL_TYPES.has(type))
    throw new BadMessage("its type is one that only the session makes");
  if (data !== null && !isObject(data)) throw new BadMessage("its data is not an object");
  const read = Object.hasOwn(READ_DATA, type) ? READ_DATA[type as keyof WireData] : undefined;
  const message: UnknownMessage = { type, data: { ...(read ? read(data ?? {}) : data) } };
  if (typeof timestamp === "string") message.timestamp = timestamp;
  return message;
}

function readTurn(data: Json): Json & { turn_id?: string; is_final: boolean } {
  const { turn_id, ...rest } = data;
  const id = readId(turn_id);
  // Builds that send no `is_final` send nothing but finished texts.
  return { ...rest, ...(id === undefined ? {} : { turn_id: id }), is_final: data.is_final !== false };
}

function readToolCall(data: Json): WireData["tool_call"] {
  const { tool_call_id, tool_name, ...rest } = data;
  const toolCallId = readId(data.toolCallId) ?? readId(tool_call_id);
  const toolName = readId(data.toolName) ?? readId(tool_name);
  if (toolCallId === undefined || toolName === undefined) {
    throw new BadMessage("it is a tool call without an id or a name");
  }
  const given = Array.isArray(data.arguments) ? data.arguments : [];
  const named = given.filter((item): item is ToolArgument => isObject(item) && typeof item.name === "string");
  return { ...rest, toolCallId, toolName, arguments: named };
}

function readString(data: Json, key: string): string {
  const value = data[key];
  if (typeof value !== "string") throw new BadMessage(`its ${key} is not a string`);
  return value;
}

/** An id as a string: a platform that counts its turns may send the number. */
function readId(value: unknown): string | undefined {
  if (typeof value === "number") return String(value);
  return typeof value === "string" && value !== "" ? value : undefined;
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
