/**
 * HTTP to the control plane: headers, scoping, errors (contract 1.1 to 1.4). Web APIs only.
 *
 * I1 The API key appears in the Authorization header and nowhere else: not in errors, not on the client object.
 */
import { AuthError, HelmrApiError, InvalidResponseError, TransportError } from "../errors.ts";
import { apiVersion, sdkVersion } from "../version.ts";
import { linkedSignal } from "./abort.ts";
import { parseBaseUrl } from "./base-url.ts";
import { streamOf } from "./body.ts";
import { environmentVariable } from "./environment.ts";

/** Both ids or none: they choose the environment when the credential is a session token. */
export interface ScopeOptions {
  readonly projectId?: string | undefined;
  readonly environmentId?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}
export interface ClientOptions {
  /** Base URL, with an optional path prefix; default the variable HELMR_API_URL. */
  readonly url?: string | undefined;
  /** Default the variable HELMR_API_KEY; without any, requests carry no credential. */
  readonly apiKey?: string | undefined;
}
export interface ApiRequest {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Below `/api` or the environment's prefix, such as `/runs`; segments already encoded. */
  readonly path: string;
  /** In order; undefined values are left out. */
  readonly query?: readonly (readonly [string, string | number | undefined])[];
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Sent as they are, instead of `body`; chunks are asked for one at a time. */
  readonly bytes?: Uint8Array | AsyncIterable<Uint8Array> | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Instead of the API key. */
  readonly publicAccessToken?: string | undefined;
  readonly scope: ScopeOptions;
  /** Limit for the whole answer, from the last chunk on that was sent. Default 60 s. */
  readonly timeoutMs?: number | undefined;
}
export interface ApiResponse {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

/** Longer than the server takes for any route that does not wait by design. */
const defaultTimeoutMs = 60_000;

export class Transport {
  readonly #baseUrl: string;
  readonly #apiKey: string | undefined;

  /** Throws a TypeError or UnsupportedTransportError on options that cannot work. */
  constructor(options: ClientOptions) {
    const url = options.url ?? environmentVariable("HELMR_API_URL");
    if (url === undefined)
      throw new TypeError("no Helmr URL: pass { url } to HelmrClient or set HELMR_API_URL");
    const { url: baseUrl, isInsecure } = parseBaseUrl(url);
    this.#baseUrl = baseUrl;
    this.#apiKey = checkedKey(options.apiKey ?? environmentVariable("HELMR_API_KEY"));
    if (isInsecure) console.warn(`Helmr: ${baseUrl} is plain http; use it for local development only`);
  }

  /** The parsed JSON of a 2xx answer. Throws AuthError, HelmrApiError, TransportError, InvalidResponseError. */
  async json(request: ApiRequest): Promise<unknown> {
    const response = await this.send(request);
    return parseJson(response.text, describe(request));
  }

  /** A 2xx answer with its text. */
  async send(request: ApiRequest): Promise<ApiResponse> {
    const timeoutMs = request.timeoutMs ?? defaultTimeoutMs;
    const link = linkedSignal(
      request.scope.signal,
      timeoutMs,
      () =>
        new TransportError(
          `${describe(request)}: no answer within ${timeoutMs / 1000} s; is the server overloaded?`,
        ),
    );
    try {
      const response = await this.#fetch(request, "application/json", link.signal, link.restartLimit);
      const text = await this.#body(response, request, link.signal);
      if (!response.ok) throw new HelmrApiError(response.status, text, describe(request));
      return { status: response.status, headers: response.headers, text };
    } finally {
      link.dispose();
    }
  }

  /** An open answer of the type `accept`; the caller reads or cancels its body. `signal` also ends the reading. */
  async stream(request: ApiRequest, signal: AbortSignal, accept = "text/event-stream"): Promise<Response> {
    const response = await this.#fetch(request, accept, signal);
    if (!response.ok) {
      throw new HelmrApiError(
        response.status,
        await this.#body(response, request, signal),
        describe(request),
      );
    }
    return response;
  }

  async #fetch(
    request: ApiRequest,
    accept: string,
    signal: AbortSignal,
    onChunk?: () => void,
  ): Promise<Response> {
    const headers: Record<string, string> = {
      Accept: accept,
      "Helmr-API-Version": apiVersion,
      "Helmr-SDK-Version": sdkVersion,
      ...request.headers,
    };
    const credential = checkedKey(request.publicAccessToken, "publicAccessToken") ?? this.#apiKey;
    if (credential !== undefined) headers.Authorization = `Bearer ${credential}`; // I1
    const init: RequestInit = { method: request.method, headers, signal };
    if (request.bytes !== undefined) {
      headers["Content-Type"] = "application/octet-stream";
      Object.assign(init, bytesBody(request.bytes, onChunk));
    } else if (request.body !== undefined) {
      headers["Content-Type"] = "application/json";
      init.body = jsonBody(request);
    }
    const url = `${this.#baseUrl}/api${scopePrefix(request.scope)}${request.path}${queryString(request.query)}`;
    const response = await this.#guard(() => fetch(url, init), request, signal);
    if (response.status !== 401) return response;
    await response.body?.cancel();
    if (request.publicAccessToken !== undefined)
      throw new AuthError(`${describe(request)}: the server does not know the public access token (401)`);
    throw new AuthError(
      `${describe(request)}: the server refused the credential (401); check apiKey or HELMR_API_KEY` +
        (request.scope.projectId === undefined
          ? ""
          : ", and that it is a session token: API keys take no projectId"),
    );
  }

  #body(response: Response, request: ApiRequest, signal: AbortSignal): Promise<string> {
    return this.#guard(() => response.text(), request, signal);
  }

  /** Turns the platform's network errors into TransportError, and an abort into its reason. */
  async #guard<T>(work: () => Promise<T>, request: ApiRequest, signal: AbortSignal): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      throw new TransportError(`${describe(request)}: ${this.#baseUrl} did not answer (${reasonOf(error)})`, {
        cause: error,
      });
    }
  }
}

/** Node hides the reason ("connect ECONNREFUSED ...") in the cause of "fetch failed". */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { cause } = error;
  if (cause instanceof AggregateError && cause.message === "") return reasonOf(cause.errors[0]);
  return cause instanceof Error && cause.message !== "" ? cause.message : error.message;
}

export function describe(request: ApiRequest): string {
  return `${request.method} ${request.path}`;
}

/** Throws a TypeError for what JSON cannot carry: a circular value, a bigint, nesting that overflows the platform's writer. */
function jsonBody(request: ApiRequest): string {
  try {
    return JSON.stringify(request.body);
  } catch (error) {
    const why =
      error instanceof RangeError ? "it is nested too deep; the server takes 200 levels" : reasonOf(error);
    throw new TypeError(`${describe(request)}: the request cannot be written as JSON: ${why}`, {
      cause: error,
    });
  }
}

/** fetch wants to be told (`duplex`) that a stream is still sent while the answer is not there yet. */
function bytesBody(bytes: NonNullable<ApiRequest["bytes"]>, onChunk: (() => void) | undefined): object {
  return bytes instanceof Uint8Array ? { body: bytes } : { body: streamOf(bytes, onChunk), duplex: "half" };
}

export function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new InvalidResponseError(`${what}: the answer is not JSON; does the URL lead to a Helmr server?`, {
      cause: error,
    });
  }
}

/** Header values must not break the header; the platform's own error would quote the key (I1). */
function checkedKey(key: string | undefined, name = "the API key"): string | undefined {
  if (key === undefined || key === "") return undefined;
  if (!/^[\x21-\x7e]+$/.test(key)) {
    throw new TypeError(
      `${name} contains space or other characters that no key has; was it copied with a line break?`,
    );
  }
  return key;
}

function scopePrefix({ projectId, environmentId }: ScopeOptions): string {
  if (projectId === undefined && environmentId === undefined) return "";
  if (projectId === undefined || environmentId === undefined) {
    throw new TypeError("projectId and environmentId go together: pass both, or none with an API key");
  }
  return `/projects/${pathSegment(projectId, "projectId")}/environments/${pathSegment(environmentId, "environmentId")}`;
}

function queryString(query: ApiRequest["query"]): string {
  const given = (query ?? []).filter(([, value]) => value !== undefined);
  if (given.length === 0) return "";
  return `?${new URLSearchParams(given.map(([key, value]): [string, string] => [key, String(value)]))}`;
}

/** An id as one segment of a path. Throws a TypeError on what would change the path ("..") or is empty. */
export function pathSegment(value: unknown, name: string): string {
  if (typeof value !== "string" || value === "" || value === "." || value === "..") {
    throw new TypeError(
      `${name} must be a non-empty id, got ${typeof value === "string" ? `"${value}"` : typeof value}`,
    );
  }
  return encodeURIComponent(value);
}
