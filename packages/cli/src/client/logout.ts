/** Ending a session on the server. */
import { CliError, exitCodes } from "../errors.ts";
import { createApiClient } from "./api-client.ts";
import { responseError } from "./api-error.ts";

export type Revocation =
  | { readonly outcome: "revoked" | "over already" }
  /** Why the server could not be told. */
  | { readonly outcome: "failed"; readonly reason: string };

const logoutTimeoutMs = 15_000;

/** Never throws but for an interrupt: what is known locally is removed all the same. */
export async function revokeSession(url: string, token: string, signal: AbortSignal): Promise<Revocation> {
  const api = createApiClient({ url, token, signal });
  try {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(logoutTimeoutMs)]);
    const response = await api.raw("POST", "/auth/logout", {}, limit);
    if (response.status === 401) return { outcome: "over already" };
    if (!response.ok) throw await responseError(response);
    await response.body?.cancel();
    return { outcome: "revoked" };
  } catch (error) {
    signal.throwIfAborted();
    const failure =
      error instanceof CliError ? error : new CliError(String(error), { exitCode: exitCodes.unavailable });
    return { outcome: "failed", reason: failure.message };
  }
}
