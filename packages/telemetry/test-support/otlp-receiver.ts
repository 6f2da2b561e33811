/**
 * A collector for tests: takes OTLP over HTTP as protobuf, and keeps the spans. What it reads of the messages is in
 * opentelemetry/proto/trace/v1/trace.proto; the numbers below are its field numbers.
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

export interface ReceivedSpan {
  readonly service: string;
  readonly traceId: string;
  readonly spanId: string;
  /** Empty of a root. */
  readonly parentSpanId: string;
  readonly name: string;
  readonly startMs: number;
  readonly endMs: number;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly links: readonly { readonly traceId: string; readonly spanId: string }[];
  /** 2: an error. */
  readonly status: number;
}

export interface OtlpReceiver {
  readonly url: string;
  readonly spans: readonly ReceivedSpan[];
  /** Paths that were asked for. */
  readonly paths: ReadonlySet<string>;
  stop(): Promise<void>;
}

export async function startOtlpReceiver(): Promise<OtlpReceiver> {
  const spans: ReceivedSpan[] = [];
  const paths = new Set<string>();
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      paths.add(`${request.method} ${request.url} ${request.headers["content-type"]}`);
      spans.push(...readRequest(Buffer.concat(parts)));
      response.writeHead(200, { "content-type": "application/x-protobuf" }).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans,
    paths,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

type Value = bigint | Buffer;

/** A message's fields by number: varints and fixed64 as bigints, everything else as bytes. */
function readFields(bytes: Buffer): Map<number, Value[]> {
  const fields = new Map<number, Value[]>();
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes.readUInt8(at);
      at += 1;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  const take = (length: number): Buffer => {
    if (at + length > bytes.length) throw new Error("a protobuf message ends in a field");
    at += length;
    return bytes.subarray(at - length, at);
  };
  const read = (wireType: number): Value => {
    if (wireType === 0) return varint();
    if (wireType === 1) return take(8).readBigUInt64LE();
    if (wireType === 2) return take(Number(varint()));
    if (wireType === 5) return BigInt(take(4).readUInt32LE());
    throw new Error(`protobuf wire type ${wireType}`);
  };
  while (at < bytes.length) {
    const key = Number(varint());
    const value = read(key & 7);
    fields.set(key >> 3, [...(fields.get(key >> 3) ?? []), value]);
  }
  return fields;
}

const messages = (fields: Map<number, Value[]>, number: number) =>
  (fields.get(number) ?? []).flatMap((value) => (typeof value === "bigint" ? [] : [readFields(value)]));
const bytesOf = (fields: Map<number, Value[]>, number: number): Buffer => {
  const value = fields.get(number)?.[0];
  return typeof value === "object" ? value : Buffer.alloc(0);
};
const hex = (fields: Map<number, Value[]>, number: number) => bytesOf(fields, number).toString("hex");
const text = (fields: Map<number, Value[]>, number: number) => bytesOf(fields, number).toString();
const integer = (fields: Map<number, Value[]>, number: number): bigint => {
  const value = fields.get(number)?.[0];
  return typeof value === "bigint" ? value : 0n;
};

function readRequest(bytes: Buffer): ReceivedSpan[] {
  return messages(readFields(bytes), 1).flatMap((resourceSpans) => {
    const [resource] = messages(resourceSpans, 1);
    const service = String(resource && readAttributes(resource, 1)["service.name"]);
    return messages(resourceSpans, 2).flatMap((scopeSpans) =>
      messages(scopeSpans, 2).map((span) => readSpan(service, span)),
    );
  });
}

function readSpan(service: string, span: Map<number, Value[]>): ReceivedSpan {
  const [status] = messages(span, 15);
  return {
    service,
    traceId: hex(span, 1),
    spanId: hex(span, 2),
    parentSpanId: hex(span, 4),
    name: text(span, 5),
    startMs: Number(integer(span, 7) / 1_000_000n),
    endMs: Number(integer(span, 8) / 1_000_000n),
    attributes: readAttributes(span, 9),
    links: messages(span, 13).map((link) => ({ traceId: hex(link, 1), spanId: hex(link, 2) })),
    status: status === undefined ? 0 : Number(integer(status, 3)),
  };
}

function readAttributes(fields: Map<number, Value[]>, number: number): Record<string, unknown> {
  return Object.fromEntries(
    messages(fields, number).map((pair) => {
      const [value] = messages(pair, 2);
      return [text(pair, 1), value && readValue(value)];
    }),
  );
}

function readValue(value: Map<number, Value[]>): unknown {
  if (value.has(1)) return text(value, 1);
  if (value.has(2)) return integer(value, 2) === 1n;
  if (value.has(3)) return Number(integer(value, 3));
  return undefined;
}
