/**
 * The HTTP client of the command: typed, validated requests whose results are the wire objects themselves.
 *
 * The SDK's HelmrClient maps answers to camel case and names itself an SDK; `--json` promises wire objects and the server
 * records the CLI's version, so that the command speaks HTTP itself (contract 1.2).
 *
 * A GET is tried three times on a transport error or 502/503/504; nothing else is repeated, except a session start that
 * the server answers with 202 `idempotency_pending` (session-start.ts).
 */
import { setTimeout as sleep } from "node:timers/promises";
import { CliError, exitCodes, messageOf } from "../errors.ts";
import { apiVersion, cliVersion } from "../version.ts";
import { responseError, unreachable } from "./api-error.ts";
import { checked, type SchemaName, type Shape } from "./wire.ts";

export interface RequestOptions {
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  /** Sent as JSON. */
  readonly body?: unknown;
  readonly form?: FormData;
  /** Sent as they are; a stream is asked for one chunk at a time. */
  readonly bytes?: Uint8Array | ReadableStream<Uint8Array>;
  readonly timeoutMs?: number;
}
/** The answer is checked with this schema and returned as received, with what newer servers add. */
interface Answered<N extends SchemaName> extends RequestOptions {
  readonly schema: N;
}
export interface ApiClient {
  /** The server's base URL. */
  readonly url: string;
  readonly signal: AbortSignal;
  get<N extends SchemaName>(path: string, options: Answered<N>): Promise<Shape<N>>;
  send<N extends SchemaName>(
    method: "POST" | "PUT" | "PATCH" | "DELETE",
    path: string,
    options: Answered<N>,
  ): Promise<Shape<N>>;
  /** The answer has no body. */
  remove(path: string, query?: RequestOptions["query"]): Promise<void>;
  /** The same client, whose requests end with `signal`, too. */
  until(signal: AbortSignal): ApiClient;
  /** An answer of bytes, as soon as the server begins to send it; the caller reads or cancels its body. */
  open(path: string, options?: RequestOptions): Promise<Response>;
  /** The answer itself, whatever its status. */
  raw(
    method: string,
    path: string,
    options: RequestOptions & { readonly headers?: Record<string, string> },
    signal?: AbortSignal,
  ): Promise<Response>;
}

const requestTimeoutMs = 30_000;
const getAttempts = 3;
const retryStatus = new Set([502, 503, 504]);

export interface ApiClientOptions {
  readonly url: string;
  /** An API key or a session token; without one only what anybody may ask is answered. */
  readonly token?: string;
  /** What every path is below, such as `/projects/p/environments/e`. */
  readonly prefix?: string;
  /** Aborts every request. */
  readonly signal: AbortSignal;
}

export function createApiClient(options: ApiClientOptions): ApiClient {
  const headers = {
    ...(options.token === undefined ? {} : { authorization: `Bearer ${options.token}` }),
    "Helmr-API-Version": apiVersion,
    "Helmr-CLI-Version": cliVersion,
    "Helmr-Client-Version": cliVersion,
  };

  const raw: ApiClient["raw"] = async (method, path, request, signal = options.signal) => {
    const target = new URL(`${options.url}/api${options.prefix ?? ""}${path}`);
    for (const [name, value] of Object.entries(request.query ?? {})) {
      if (value !== undefined) target.searchParams.set(name, String(value));
    }
    const body =
      request.form ??
      request.bytes ??
      (request.body === undefined ? undefined : JSON.stringify(request.body));
    try {
      return await fetch(target, {
        method,
        headers: {
          ...headers,
          ...(request.body === undefined ? {} : { "content-type": "application/json" }),
          ...(request.bytes === undefined ? {} : { "content-type": "application/octet-stream" }),
          ...request.headers,
        },
        ...(body === undefined ? {} : { body }),
        // fetch asks for this word where the body is a stream.
        ...(body instanceof ReadableStream ? { duplex: "half" as const } : {}),
        redirect: "error",
        signal,
      });
    } catch (error) {
      options.signal.throwIfAborted();
      throw unreachable(options.url, error);
    }
  };

  const answered = async (method: string, path: string, request: RequestOptions): Promise<Response> => {
    const timeout = AbortSignal.timeout(request.timeoutMs ?? requestTimeoutMs);
    const response = await raw(method, path, request, AbortSignal.any([options.signal, timeout]));
    if (!response.ok) throw await responseError(response);
    return response;
  };
  const once = async <N extends SchemaName>(
    method: string,
    path: string,
    request: Answered<N>,
  ): Promise<Shape<N>> => {
    const response = await answered(method, path, request);
    return checked(request.schema, await readJson(response, options.url), `${method} /api${path}`);
  };

  return {
    url: options.url,
    signal: options.signal,
    raw,
    send: once,
    until: (signal) => createApiClient({ ...options, signal: AbortSignal.any([options.signal, signal]) }),
    async open(path, request = {}) {
      const limit = new AbortController();
      const timer = setTimeout(
        () => limit.abort(new DOMException("no answer", "TimeoutError")),
        request.timeoutMs ?? requestTimeoutMs,
      );
      try {
        const response = await raw("GET", path, request, AbortSignal.any([options.signal, limit.signal]));
        if (!response.ok) throw await responseError(response);
        return response;
      } finally {
        clearTimeout(timer);
      }
    },
    async get(path, request) {
      for (let attempt = 1; ; attempt += 1) {
        try {
          return await once("GET", path, request);
        } catch (error) {
          if (attempt === getAttempts || options.signal.aborted || !isTransient(error)) throw error;
          await sleep(Math.random() * 200 * 2 ** attempt, undefined, { signal: options.signal });
        }
      }
    },
    async remove(path, query = {}) {
      const response = await answered("DELETE", path, { query });
      await response.body?.cancel();
    },
  };
}

async function readJson(response: Response, url: string): Promise<unknown> {
  const text = await response.text().catch((error: unknown) => {
    throw unreachable(url, error);
  });
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new CliError(`the answer of ${url} is not JSON: ${messageOf(error)}`, {
      exitCode: exitCodes.unavailable,
      hint: "check that --api-url or HELMR_API_URL names a Helmr server, not a page in front of it",
    });
  }
}

/** Whether another try may help: the server is not there or said so itself. */
export function isTransient(error: unknown): boolean {
  if (!(error instanceof CliError) || error.exitCode !== exitCodes.unavailable) return false;
  const { cause } = error;
  if (cause instanceof Response)
    return retryStatus.has(cause.status) || cause.status === 408 || cause.status === 429;
  return cause instanceof Error;
}
