/** How commands name a session: by its id, or by `--external-id`. */
import type { Command } from "commander";
import { declare, inEnvironment } from "./command.ts";
import type { EnvironmentOptions } from "./context.ts";
import { usageError } from "./errors.ts";

export type AddressOptions = EnvironmentOptions & { readonly externalId?: string };

export function addressed(
  group: Command,
  name: string,
  summary: string,
  examples: readonly string[],
): Command {
  return withExternalId(declare(group, `${name} [session]`, summary, examples));
}

/** A command about a stream of a session; with `--external-id` the stream is the only argument. */
export function streamAddressed(
  group: Command,
  name: string,
  summary: string,
  examples: readonly string[],
): Command {
  return withExternalId(declare(group, `${name} <session> [stream]`, summary, examples));
}

function withExternalId(command: Command): Command {
  return inEnvironment(command).option("--external-id <id>", "name the session by its external id");
}

export interface Address {
  readonly path: string;
  readonly query: Record<string, string>;
}

/** `{S}` of contract 3: the path and query that name a session; `action` is what comes after it. */
export function address(id: string | undefined, options: AddressOptions, action = ""): Address {
  if ((id === undefined) === (options.externalId === undefined)) {
    throw usageError(
      "name the session by its id or by --external-id, one of the two",
      "`helmr session list` shows both",
    );
  }
  if (id !== undefined) return { path: `/sessions/${encodeURIComponent(id)}${action}`, query: {} };
  return { path: `/sessions/by-external-id${action}`, query: { external_id: options.externalId ?? "" } };
}

/** The arguments of `streamAddressed`: the session's id, unless it is named by its external id, and the stream. */
export function sessionAndStream(
  first: string,
  second: string | undefined,
  options: AddressOptions,
): { readonly session: string | undefined; readonly stream: string } {
  if (options.externalId !== undefined && second === undefined) return { session: undefined, stream: first };
  if (options.externalId === undefined && second !== undefined) return { session: first, stream: second };
  throw usageError(
    "name a session and a stream: <session> <stream>, or --external-id <id> <stream>",
    "`helmr session streams <session>` lists the streams",
  );
}
