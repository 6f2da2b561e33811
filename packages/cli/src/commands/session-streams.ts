/** `helmr session streams`, `input` and `output`: what is sent to a session, and what its runs say. */
import type { Command } from "commander";
import type { ApiClient } from "../client/api-client.ts";
import { followRecords, readRecords } from "../client/records.ts";
import type { StreamRecord } from "../client/wire.ts";
import { declare } from "../command.ts";
import { withApi } from "../context.ts";
import { usageError } from "../errors.ts";
import { note, paint, plain, writeJson, writeJsonLine, writeStdout, writeTable } from "../output.ts";
import {
  type AddressOptions,
  address,
  addressed,
  sessionAndStream,
  streamAddressed,
} from "../session-address.ts";
import { integer, jsonValue } from "../values.ts";

const exampleSession = "01990000-0000-7000-8000-000000000002";
const defaultLimit = 100;

export function registerSessionStreams(group: Command): void {
  addressed(group, "streams", "List the streams of a session", [
    `helmr session streams ${exampleSession}`,
  ]).action(streams);
  const input = declare(group, "input", "Send to a session, and see what was sent", [
    `helmr session input send ${exampleSession} approvals --data '{"approved":true}'`,
  ]);
  streamAddressed(input, "send", "Send a record to an input stream", [
    `helmr session input send ${exampleSession} approvals --data '{"approved":true}'`,
    "jq . answer.json | helmr session input send --external-id order-7 approvals",
  ])
    .option("-d, --data <json>", "JSON, @file, or - for stdin (the default when something is piped in)")
    .option("--correlation-id <id>", "for the wait with this correlation id, or for one with none")
    .option("--idempotency-key <key>", "the same key and data are one record")
    .action(send);
  reading(
    streamAddressed(input, "list", "List what was sent to an input stream", [
      `helmr session input list ${exampleSession} approvals`,
    ]),
  ).action(list("inputs"));
  const output = declare(group, "output", "See what the runs of a session say", [
    `helmr session output list ${exampleSession} progress --follow`,
  ]);
  reading(
    streamAddressed(output, "list", "List the records of an output stream", [
      `helmr session output list ${exampleSession} progress`,
      `helmr session output list ${exampleSession} progress --follow --json`,
    ]),
  ).action(list("outputs"));
  reading(
    streamAddressed(output, "read", "Print the data of the next record of an output stream", [
      `helmr session output read ${exampleSession} progress --after 3`,
    ]),
    "wait until there is one",
  ).action(read);
}

function reading(command: Command, follow?: string): Command {
  const positioned = command
    .option("--after <sequence>", "records with a greater sequence", integer(0, Number.MAX_SAFE_INTEGER), 0)
    .option("--correlation-id <id>", "only records with it")
    .option(
      "-f, --follow",
      follow ?? "go on with what comes, until the session is over; with --json a line per record",
    );
  if (follow !== undefined) return positioned;
  return positioned.option(
    "--limit <n>",
    `at most this many (default: ${defaultLimit}; not with --follow)`,
    integer(1, 500),
  );
}

interface SendOptions extends AddressOptions {
  readonly data?: string;
  readonly correlationId?: string;
  readonly idempotencyKey?: string;
}
interface ReadOptions extends AddressOptions {
  readonly after: number;
  readonly correlationId?: string;
  readonly follow?: boolean;
  readonly limit?: number;
}

const streams = (id: string | undefined, options: AddressOptions): Promise<void> =>
  withApi(options, async (api) => {
    const { path, query } = address(id, options, "/streams");
    const answer = await api.get(path, { query, schema: "sessionStreamList" });
    if (options.json) return writeJson(answer);
    await writeTable(
      [
        { header: "DIRECTION", value: (row) => row.direction },
        { header: "STREAM", value: (row) => row.name },
        { header: "RECORDS", value: (row) => row.sequence },
      ],
      answer.streams,
    );
  });

const send = (first: string, second: string | undefined, options: SendOptions): Promise<void> =>
  withApi(options, async (api) => {
    const { session, stream } = sessionAndStream(first, second, options);
    const { path, query } = address(session, options, `/inputs/${encodeURIComponent(stream)}`);
    if (options.data === undefined && process.stdin.isTTY)
      throw usageError("there is no data to send", `give it with --data '{"approved":true}', or pipe it in`);
    const body = {
      data: await jsonValue(options.data ?? "-", "--data"),
      correlation_id: options.correlationId,
      idempotency_key: options.idempotencyKey,
    };
    const answer = await api.send("POST", path, { query, body, schema: "streamAppend" });
    if (options.json) return writeJson(answer);
    const again = answer.idempotency_status === "duplicate" ? ", which was there already" : "";
    note(`record ${answer.record.sequence} of ${stream}${again}${followUp(answer.continuation_status)}`);
  });

function followUp(status: string | undefined): string {
  if (status === "created") return "; no run was under way: a new one is queued";
  if (status === "accepted_run_pending") return "; the run takes it, or a new one follows it";
  return "";
}

function list(
  kind: "inputs" | "outputs",
): (first: string, second: string | undefined, options: ReadOptions) => Promise<void> {
  return (first, second, options) =>
    withApi(options, async (api) => {
      const source = sourceOf(kind, first, second, options);
      if (options.follow) {
        for await (const record of followRecords(api, { ...source, isOver: isOver(api, first, options) }))
          await (options.json ? writeJsonLine(record) : writeRecord(record));
        return;
      }
      const records = await readRecords(api, source, options.limit ?? defaultLimit);
      if (options.json) return writeJson({ records });
      await writeTable<StreamRecord>(
        [
          { header: "SEQUENCE", value: (row) => row.sequence },
          { header: "CREATED", value: (row) => row.created_at },
          { header: "CORRELATION", value: (row) => row.correlation_id },
          { header: "DATA", value: (row) => JSON.stringify(row.data) },
        ],
        records,
      );
      const last = records.at(-1);
      if (last !== undefined && records.length === (options.limit ?? defaultLimit))
        note(`hint: there may be more: --after ${last.sequence}`);
    });
}

const read = (first: string, second: string | undefined, options: ReadOptions): Promise<void> =>
  withApi(options, async (api) => {
    const source = sourceOf("outputs", first, second, options);
    const record = await nextRecord(api, source, options, first);
    if (options.json) return writeJson({ record: record ?? null });
    if (record === undefined) return note("there is none yet");
    await writeJson(record.data);
  });

async function nextRecord(
  api: ApiClient,
  source: ReturnType<typeof sourceOf>,
  options: ReadOptions,
  first: string,
): Promise<StreamRecord | undefined> {
  if (!options.follow) return (await readRecords(api, source, 1))[0];
  for await (const record of followRecords(api, { ...source, isOver: isOver(api, first, options) }))
    return record;
  return undefined;
}

function sourceOf(
  kind: "inputs" | "outputs",
  first: string,
  second: string | undefined,
  options: ReadOptions,
) {
  const { session, stream } = sessionAndStream(first, second, options);
  const { path, query } = address(session, options, `/${kind}/${encodeURIComponent(stream)}`);
  return { path, query: { ...query, correlation_id: options.correlationId }, after: options.after };
}

function isOver(api: ApiClient, first: string, options: AddressOptions): () => Promise<boolean> {
  const { path, query } = address(options.externalId === undefined ? first : undefined, options);
  return async () => (await api.get(path, { query, schema: "session" })).status !== "open";
}

function writeRecord(record: StreamRecord): Promise<void> {
  const head = paint("dim", `${record.sequence}  ${record.created_at.slice(11, 23)}`);
  const correlation = record.correlation_id === undefined ? "" : `  ${plain(record.correlation_id)}`;
  return writeStdout(`${head}${correlation}  ${plain(JSON.stringify(record.data))}\n`);
}
