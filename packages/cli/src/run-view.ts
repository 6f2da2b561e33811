/** How a run is shown: its record, its end, its logs and events. */
import { isTerminal, outcomeCode } from "./client/runs.ts";
import type { Event, Run, RunLogFrame } from "./client/wire.ts";
import {
  note,
  paint,
  paintStatus,
  plain,
  plainLines,
  writeFields,
  writeJson,
  writeStderr,
  writeStdout,
  writeTable,
} from "./output.ts";
import { TerminalFilter } from "./terminal-filter.ts";

export function writeRuns(runs: readonly Run[]): Promise<void> {
  return writeTable(
    [
      { header: "RUN", value: (row) => row.id },
      { header: "TASK", value: (row) => row.task_id },
      { header: "STATUS", value: (row) => row.status },
      { header: "ATTEMPT", value: (row) => row.attempt_number },
      { header: "VERSION", value: (row) => row.version },
      { header: "CREATED", value: (row) => row.created_at },
    ],
    runs,
  );
}

/** `reason`: why it is queued still. */
export async function writeRun(run: Run, reason?: string): Promise<void> {
  await writeFields([
    ["run", run.id],
    ["task", run.task_id],
    ["status", run.status],
    ["waits because", reason],
    ["exit code", run.exit_code],
    ["attempt", run.attempt_number],
    ["session", run.session_id],
    ["version", run.version],
    ["metadata", jsonField(run.metadata)],
    ["output", jsonField(run.output)],
    ["created", run.created_at],
    ["updated", run.updated_at],
    ...waitFields(run),
  ]);
}

/** What a waiting run waits for, since when and until when, and the command that lets it go on. */
function waitFields({ pending_wait: wait, session_id }: Run): [string, string | undefined][] {
  if (wait === undefined) return [];
  const { token_id, stream, correlation_id, due_at } = wait.params;
  const until = wait.timeout_at ?? text(due_at);
  const correlation = text(correlation_id);
  const waits: Record<typeof wait.kind, readonly [what: string, command: string | undefined]> = {
    timer: ["a timer", undefined],
    token: [`token ${text(token_id)}`, `helmr token complete ${text(token_id)} --data <json>`],
    stream: [
      `input on ${text(stream)}${correlation === "" ? "" : ` with correlation id ${correlation}`}`,
      `helmr session input send ${session_id} ${text(stream)}${correlation === "" ? "" : ` --correlation-id ${shellWord(correlation)}`} --data <json>`,
    ],
  };
  const [what, command] = waits[wait.kind];
  return [
    ["waits for", what],
    ["since", wait.created_at],
    ["until", until === "" ? undefined : until],
    ["to go on", command],
    ["wait tags", wait.tags?.join(", ")],
    ["wait metadata", jsonField(wait.metadata)],
  ];
}

function shellWord(value: string): string {
  return /^[\w.:@/-]+$/.test(value) ? value : `'${value.replaceAll("'", `'\\''`)}'`;
}

function jsonField(value: unknown): string | undefined {
  if (value === undefined) return undefined;
  const empty = typeof value === "object" && value !== null && Object.keys(value).length === 0;
  return empty ? undefined : JSON.stringify(value);
}

/**
 * How a watched run ended: one line on stderr, with the reason where the last event has one, and its output as JSON on
 * stdout, or on stderr where stdout holds the task's own bytes. Sets the process's exit code to the outcome.
 */
export async function writeOutcome(
  run: Run,
  last?: Event,
  outputTo: "stdout" | "stderr" = "stdout",
): Promise<void> {
  process.exitCode = outcomeCode(run);
  const reason = failureText(last);
  note(
    `run ${run.id} ${paintStatus(run.status, process.stderr)}${reason === "" ? "" : `: ${plainLines(reason)}`}`,
  );
  if (run.output !== undefined) {
    await (outputTo === "stdout"
      ? writeJson(run.output)
      : writeStderr(`${JSON.stringify(run.output, null, 2)}\n`));
  }
  if (run.status === "failed" && isTerminal(run))
    note(`hint: \`helmr run logs ${run.id}\` and \`helmr run events ${run.id}\` say more`);
}

/** What `run.failed`, `run.cancelled` or `run.expired` carries, in words. */
function failureText(event: Event | undefined): string {
  if (event === undefined || event.kind === "run.completed") return "";
  const { failure_kind, detail, reason, message } = event.attributes;
  const said = [
    text(reason),
    text(message),
    typeof detail === "object" && detail !== null ? detailText({ ...detail }) : text(detail),
  ];
  return [text(failure_kind), ...said].filter((part) => part !== "").join(": ");
}

function detailText(detail: Record<string, unknown>): string {
  if (typeof detail.stack === "string") return detail.stack;
  const named = [text(detail.name), text(detail.message)].filter((part) => part !== "").join(": ");
  return named === "" ? JSON.stringify(detail) : named;
}

const text = (value: unknown): string => (typeof value === "string" ? value : "");

const filters = { stdout: new TerminalFilter(), stderr: new TerminalFilter() };

/** The bytes of a log frame, to the stream they came from: as they are in a pipe (output.ts O1), filtered on a terminal. */
export function writeLogFrame(frame: RunLogFrame): Promise<void> {
  const name = frame.stream === "stdout" ? "stdout" : "stderr";
  const bytes = Buffer.from(frame.content_base64, "base64");
  const shown = process[name].isTTY ? filters[name].push(bytes) : bytes;
  return name === "stdout" ? writeStdout(shown) : writeStderr(shown);
}

const quietAttributes = new Set(["run_id", "task_id"]);

/** An event as one line: time, severity where it matters, what happened, its attributes. */
export function writeEvent(event: Event): Promise<void> {
  const time = paint("dim", event.at.slice(11, 23));
  const severity =
    event.severity === "error"
      ? paint("red", "error ")
      : event.severity.startsWith("warn")
        ? paint("yellow", "warn ")
        : "";
  const attributes = Object.entries(event.attributes)
    .filter(([name]) => !quietAttributes.has(name))
    .map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(" ");
  const what = event.message === event.kind ? event.kind : `${event.kind} ${event.message}`;
  return writeStdout(
    `${time}  ${severity}${plain(what)}${attributes === "" ? "" : `  ${paint("dim", plain(attributes))}`}\n`,
  );
}
