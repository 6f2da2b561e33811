/**
 * The agent's end of the JSON channel: whatever the task process writes there is bounded and validated, for the task's
 * own code can write to it as well.
 *
 *  H1  While a message is handled, nothing more is read: a flood of messages waits in the pipe.
 *  H2  After the first violation nothing is read any more; the process is ended by the agent.
 */
import type { Duplex } from "node:stream";
import { callMethod, limits, metadataOperation, runOutcome } from "@helmr/guest-protocol";
import { FrameDecoder, ProtocolError, prefixed } from "@helmr/guest-protocol/frames";
import * as z from "zod";

export const fromHost = z.discriminatedUnion("type", [
  z.object({ type: z.literal("ready") }),
  z.object({ type: z.literal("run.started"), at_ms: z.number() }),
  z.object({ type: z.literal("metadata"), operation: metadataOperation }),
  z.object({
    type: z.literal("call"),
    call_id: z.number().int().positive(),
    method: callMethod,
    params_json: z.string().max(limits.callBytes),
  }),
  z.object({ type: z.literal("run.finished"), outcome: runOutcome }),
  z.object({
    type: z.literal("run.restored"),
    randomness_problem: z
      .string()
      .max(limits.errorTextBytes + 64)
      .optional(),
  }),
]);
export const fromIndexer = z.discriminatedUnion("type", [
  z.object({ type: z.literal("loading"), file: z.string().max(4096) }),
  z.object({ type: z.literal("index.finished"), catalog_json: z.string().max(limits.catalogBytes) }),
  z.object({
    type: z.literal("index.failed"),
    failure_kind: z.string().max(64),
    problems: z.array(z.string().max(limits.errorTextBytes + 64)).max(100),
  }),
]);

/**
 * Read messages of `schema`; `onMessage` is awaited (H1). `onViolation` is called at most once (H2).
 * Returns a function that stops reading and leaves what comes later in the stream.
 */
export function readMessages<T>(
  channel: Duplex,
  schema: z.ZodType<T>,
  onMessage: (message: T) => void | Promise<void>,
  onViolation: (error: ProtocolError) => void,
): () => void {
  const decoder = new FrameDecoder(limits.frameBytes);
  let stopped = false;
  const stop = (): void => {
    stopped = true;
    channel.off("data", listener);
    channel.pause();
  };
  const onData = async (chunk: Buffer): Promise<void> => {
    channel.pause();
    try {
      for (const body of decoder.push(chunk)) await onMessage(parse(body, schema));
      if (!stopped) channel.resume();
    } catch (error) {
      stop();
      channel.destroy();
      onViolation(
        error instanceof ProtocolError ? error : new ProtocolError("Invalid message.", { cause: error }),
      );
    }
  };
  const listener = (chunk: Buffer): void => void onData(chunk);
  channel.on("data", listener);
  channel.resume();
  return stop;
}

function parse<T>(body: Buffer, schema: z.ZodType<T>): T {
  const parsed = schema.safeParse(JSON.parse(body.toString("utf8")));
  if (!parsed.success) throw new ProtocolError("The process sent a message that is not allowed.");
  return parsed.data;
}

/** Send one message to the process. */
export function writeMessage(channel: Duplex, message: unknown): void {
  if (channel.writable) channel.write(prefixed(Buffer.from(JSON.stringify(message))));
}
