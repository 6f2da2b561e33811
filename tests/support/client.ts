/** The SDK's client and the CLI's environment for the stack that the tests share. */
import { HelmrClient } from "@helmr/sdk";
import { inject } from "vitest";

export function stackClient(): HelmrClient {
  return new HelmrClient({ url: inject("stackUrl"), apiKey: inject("stackApiKey") });
}

export function stackEnv(): Record<string, string> {
  return { HELMR_API_URL: inject("stackUrl"), HELMR_API_KEY: inject("stackApiKey") };
}

/** A call of the HTTP API with the stack's key. */
export async function api<T>(
  method: string,
  path: string,
  body?: unknown,
): Promise<{ status: number; body: T }> {
  const response = await fetch(`${inject("stackUrl")}/api${path}`, {
    method,
    headers: {
      authorization: `Bearer ${inject("stackApiKey")}`,
      ...(body === undefined ? {} : { "content-type": "application/json" }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  return { status: response.status, body: (text === "" ? undefined : JSON.parse(text)) as T };
}
