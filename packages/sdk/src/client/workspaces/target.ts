/** Requests about one workspace, and reading what is optional in answers. */
import { InvalidResponseError } from "../../errors.ts";
import { type ApiRequest, pathSegment, type ScopeOptions, type Transport } from "../transport.ts";
import type { WireObject } from "../wire.ts";

/** A workspace's id, or anything that has one. */
export type WorkspaceReference = string | { readonly id: string };

export interface Target {
  readonly transport: () => Transport;
  readonly id: string;
  /** `W` of contract 7. */
  readonly path: string;
}

/** Throws a TypeError on what names no workspace. */
export function targetOf(transport: () => Transport, workspace: WorkspaceReference): Target {
  const id = idOf(workspace);
  return { transport, id, path: `/workspaces/${pathSegment(id, "workspace id")}` };
}

/** Undefined becomes an empty id, which `pathSegment` refuses. */
export function idOf(reference: WorkspaceReference): string {
  return typeof reference === "string" ? reference : (reference?.id ?? "");
}

type More = Pick<ApiRequest, "query" | "body" | "bytes" | "headers" | "timeoutMs">;

export function request(
  target: Target,
  method: ApiRequest["method"],
  suffix: string,
  scope: ScopeOptions,
  more: More = {},
): ApiRequest {
  return { method, path: `${target.path}${suffix}`, scope, ...more };
}

export function ask(
  target: Target,
  method: ApiRequest["method"],
  suffix: string,
  scope: ScopeOptions,
  more?: More,
): Promise<unknown> {
  return target.transport().json(request(target, method, suffix, scope, more));
}

/** `{[name]: object[key]}` when that is a text, else `{}`. */
export function optionalText<Name extends string>(
  object: WireObject,
  key: string,
  name: Name,
): { [K in Name]?: string } {
  const value = object[key];
  return typeof value === "string" ? ({ [name]: value } as { [K in Name]?: string }) : {};
}

export function optionalNumber<Name extends string>(
  object: WireObject,
  key: string,
  name: Name,
): { [K in Name]?: number } {
  const value = object[key];
  return typeof value === "number" ? ({ [name]: value } as { [K in Name]?: number }) : {};
}

/** A whole number that is not negative. Throws InvalidResponseError. */
export function wireCount(object: WireObject, key: string, what: string): number {
  const value = object[key];
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0)
    throw new InvalidResponseError(`${what}: the server sent no whole number "${key}"`);
  return value;
}
