/** Sign-in of a command line by device code (contract 12): the command polls, a signed-in member decides. */
import { ApiError } from "@helmr/api";
import {
  approveDeviceCode,
  type DeviceCodeStatus,
  denyDeviceCode,
  deviceCodeLifetimeSeconds,
  devicePollIntervalSeconds,
  getDeviceCode,
  pollDeviceCode,
  startDeviceCode,
} from "@helmr/store";
import type { Context } from "../context.ts";
import type { Handlers } from "../http/handlers.ts";
import { found } from "./found.ts";

/** RFC 8628 3.5, in the words of contract 12. */
const refusals = {
  denied: "access_denied",
  expired: "expired_token",
  unknown: "invalid_request",
} as const;

export function deviceHandlers({
  db,
  config,
}: Context): Pick<
  Handlers,
  "startDeviceCode" | "pollDeviceCode" | "getDeviceCode" | "approveDeviceCode" | "denyDeviceCode"
> {
  const verificationUri = `${config.publicUrl.replace(/\/+$/, "")}/auth/device`;
  return {
    startDeviceCode: async () => {
      const started = await startDeviceCode(db);
      if (started === undefined)
        throw new ApiError(503, "too many sign-ins are waiting for approval; try again in some minutes");
      return {
        status: 201,
        body: {
          device_code: started.deviceCode,
          user_code: started.userCode,
          verification_uri: verificationUri,
          verification_uri_complete: `${verificationUri}?code=${started.userCode}`,
          expires_in_seconds: deviceCodeLifetimeSeconds,
          interval_seconds: devicePollIntervalSeconds,
        },
      };
    },
    pollDeviceCode: async ({ actor, body }) => {
      const poll = await pollDeviceCode(db, actor, body.device_code);
      if (poll.outcome === "pending") return { status: 202, body: { error: "authorization_pending" } };
      if (poll.outcome === "slow_down") return { status: 202, body: { error: "slow_down" } };
      if (poll.outcome !== "approved") throw new ApiError(400, refusals[poll.outcome]);
      return {
        status: 200,
        body: {
          access_token: poll.token,
          token_type: "bearer",
          expires_in_seconds: poll.expiresInSeconds,
        },
      };
    },
    getDeviceCode: async ({ query }) => {
      const code = found(await getDeviceCode(db, query.user_code), "user code");
      return { status: 200, body: { status: code.status, expires_at: code.expiresAt.toISOString() } };
    },
    approveDeviceCode: async ({ actor, body, member }) => {
      const status = await approveDeviceCode(db, actor, body.user_code, member);
      return { status: 200, body: { status: decided(status) } };
    },
    denyDeviceCode: async ({ actor, body, member }) => {
      const status = await denyDeviceCode(db, actor, body.user_code, member);
      return { status: 200, body: { status: decided(status) } };
    },
  };
}

function decided(status: DeviceCodeStatus | undefined): DeviceCodeStatus {
  if (status !== undefined) return status;
  throw new ApiError(
    404,
    "no sign-in waits for approval under this code; check it, or start `helmr login` again",
  );
}
