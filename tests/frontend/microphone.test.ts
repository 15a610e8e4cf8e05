import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type MicrophoneHost,
  microphonePermission,
  openMicrophone,
} from "../../sessions_app/frontend/microphone";
import { CallFailure } from "../../sessions_app/frontend/situations";

interface Refusal {
  name: string;
  message?: string;
  permission?: PermissionState;
  isForbiddenByPolicy?: boolean;
}

function refusing({ name, message = "", permission, isForbiddenByPolicy }: Refusal): MicrophoneHost {
  return {
    isSecureContext: true,
    navigator: {
      mediaDevices: { getUserMedia: () => Promise.reject(new DOMException(message, name)) },
      ...(permission
        ? { permissions: { query: async () => ({ state: permission }) as PermissionStatus } }
        : {}),
    },
    document:
      isForbiddenByPolicy === undefined
        ? {}
        : { featurePolicy: { allowsFeature: () => !isForbiddenByPolicy } },
  };
}

async function failure(host: MicrophoneHost): Promise<unknown> {
  const error = await openMicrophone(host).catch((reason: unknown) => reason);
  return error instanceof CallFailure ? error.code : error;
}

test("why there is no microphone is told apart", async () => {
  const cases: [Refusal, string][] = [
    [{ name: "NotFoundError" }, "microphone_missing"],
    [{ name: "OverconstrainedError" }, "microphone_missing"],
    [{ name: "NotReadableError" }, "microphone_busy"],
    [{ name: "UnknownError" }, "microphone_failed"],
    [{ name: "NotAllowedError", permission: "prompt" }, "microphone_denied"],
    [{ name: "NotAllowedError" }, "microphone_denied"],
    [{ name: "NotAllowedError", permission: "denied" }, "microphone_blocked"],
    [{ name: "NotAllowedError", permission: "granted" }, "microphone_policy"],
    [{ name: "NotAllowedError", permission: "granted", isForbiddenByPolicy: true }, "microphone_policy"],
    [{ name: "NotAllowedError", permission: "denied", isForbiddenByPolicy: false }, "microphone_blocked"],
    [
      { name: "NotAllowedError", message: "Permission denied by system", permission: "granted" },
      "microphone_blocked_by_system",
    ],
  ];
  for (const [refusal, code] of cases) assert.equal(await failure(refusing(refusal)), code);
  assert.equal(await failure({ isSecureContext: false, navigator: {}, document: {} }), "insecure_origin");
});

test("a remembered microphone that is away gives its place to the system's", async () => {
  const asked: unknown[] = [];
  const host: MicrophoneHost = {
    isSecureContext: true,
    navigator: {
      mediaDevices: {
        getUserMedia: async (constraints) => {
          const { deviceId } = (constraints?.audio ?? {}) as MediaTrackConstraints;
          asked.push(deviceId);
          if (deviceId) throw new DOMException("", "OverconstrainedError");
          return { getAudioTracks: () => ["the system's"] } as unknown as MediaStream;
        },
      },
    },
    document: {},
  };
  assert.equal((await openMicrophone(host, "headset")) as unknown, "the system's");
  assert.deepEqual(asked, [{ exact: "headset" }, undefined]);
});

test("a browser that does not tell its permission is taken to ask", async () => {
  const unknowing: MicrophoneHost = {
    isSecureContext: true,
    navigator: { permissions: { query: () => Promise.reject(new TypeError()) } },
    document: {},
  };
  assert.equal(await microphonePermission(unknowing), undefined);
  assert.equal(await microphonePermission(refusing({ name: "", permission: "granted" })), "granted");
});
