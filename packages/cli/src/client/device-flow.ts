/**
 * The device flow as the command walks it (RFC 8628, contract 12): start, show the code, poll until somebody decided.
 *
 *   answer                         what follows
 *   202 authorization_pending      poll again after the interval
 *   202 slow_down                  the interval grows by 5 s, for good
 *   200                            the session token
 *   400 access_denied              exit code 4
 *   400 expired_token, or the
 *   code's life is over            exit code 124
 *   no answer, 502, 503, 504       poll again, after twice the time each time, until the code's life is over
 *   anything else                  that error
 */
import { setTimeout as sleep } from "node:timers/promises";
import { CliError, exitCodes } from "../errors.ts";
import { type ApiClient, isTransient } from "./api-client.ts";
import { responseError } from "./api-error.ts";
import { checked, type Shape } from "./wire.ts";

/** Contract 12: what counts where the server names none. */
const usualIntervalSeconds = 5;
const usualLifetimeSeconds = 600;
/** RFC 8628 3.5. */
const slowDownSeconds = 5;
const maxPauseSeconds = 60;

export type DeviceCodeStart = Shape<"deviceCodeStart">;

export function startDeviceFlow(api: ApiClient): Promise<DeviceCodeStart> {
  return api.send("POST", "/auth/device/start", { body: {}, schema: "deviceCodeStart" });
}

/** Resolves to the session token once the code was approved. */
export async function pollForToken(api: ApiClient, started: DeviceCodeStart): Promise<string> {
  const lifetime = started.expires_in_seconds > 0 ? started.expires_in_seconds : usualLifetimeSeconds;
  let interval = started.interval_seconds > 0 ? started.interval_seconds : usualIntervalSeconds;
  const deadlineMs = performance.now() + lifetime * 1000;
  let pause = interval;
  for (;;) {
    const leftMs = deadlineMs - performance.now();
    if (leftMs <= 0) throw expired();
    await sleep(Math.min(pause * 1000, leftMs), undefined, { signal: api.signal });
    const answer = await poll(api, started.device_code);
    if (answer.outcome === "token") return answer.token;
    if (answer.outcome === "slow_down") interval += slowDownSeconds;
    pause = answer.outcome === "unreachable" ? Math.min(pause * 2, maxPauseSeconds) : interval;
  }
}

type Poll =
  | { readonly outcome: "token"; readonly token: string }
  | { readonly outcome: "pending" | "slow_down" | "unreachable" };

async function poll(api: ApiClient, deviceCode: string): Promise<Poll> {
  const body = { device_code: deviceCode };
  try {
    const timeout = AbortSignal.any([api.signal, AbortSignal.timeout(30_000)]);
    const response = await api.raw("POST", "/auth/device/token", { body }, timeout);
    if (!response.ok) throw await refusal(response);
    const value: unknown = await response.json();
    if (response.status === 202) {
      const { error } = await checked("deviceTokenPending", value, "POST /api/auth/device/token");
      return { outcome: error === "slow_down" ? "slow_down" : "pending" };
    }
    const granted = await checked("deviceToken", value, "POST /api/auth/device/token");
    return { outcome: "token", token: granted.access_token };
  } catch (error) {
    api.signal.throwIfAborted();
    if (isTransient(error)) return { outcome: "unreachable" };
    throw error;
  }
}

async function refusal(response: Response): Promise<CliError> {
  const error = await responseError(response);
  if (error.message === "expired_token") return expired();
  if (error.message !== "access_denied") return error;
  return new CliError("the sign-in was denied", {
    exitCode: exitCodes.auth,
    hint: "if that was not you, somebody saw the code: start `helmr login` again and approve the new one",
  });
}

function expired(): CliError {
  return new CliError("the code expired before anybody approved it", {
    exitCode: exitCodes.timedOut,
    hint: "start `helmr login` again; a code lives ten minutes",
  });
}
