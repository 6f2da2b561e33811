/** One connection to an event stream of the server (contract 6.2, 7.6). */
import { SseProtocolError, TransportError } from "../errors.ts";
import { linkedSignal } from "./abort.ts";
import { readFrames, type SseFrame } from "./sse.ts";
import { type ApiRequest, describe, type Transport } from "./transport.ts";

const connectTimeoutMs = 60_000;
/** The server says something at least every 25 s (contract 6.2): three of those missing mean a dead connection. */
const idleTimeoutMs = 90_000;

/** Its frames, until the server ends it. Errors as of `readFrames`; throws HelmrApiError when the answer is no 2xx. */
export async function* eventFrames(
  transport: Transport,
  request: ApiRequest,
  signal: AbortSignal,
): AsyncGenerator<SseFrame> {
  const late = () =>
    new TransportError(`${describe(request)}: no answer within ${connectTimeoutMs / 1000} s`);
  const link = linkedSignal(signal, connectTimeoutMs, late);
  try {
    const response = await transport.stream(request, link.signal);
    link.clearLimit();
    const type = response.headers.get("content-type") ?? "";
    if (!type.toLowerCase().startsWith("text/event-stream") || response.body === null) {
      await response.body?.cancel();
      throw new SseProtocolError(
        `${describe(request)}: the answer is no event stream but ${type || "empty"}`,
      );
    }
    yield* readFrames(response.body, idleTimeoutMs, link.signal);
  } finally {
    link.dispose();
  }
}
