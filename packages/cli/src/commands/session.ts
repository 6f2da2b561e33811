/** `helmr session`: invocations of tasks, found by id or by the caller's own external id. */
import type { Command } from "commander";
import type { Session } from "../client/wire.ts";
import { declare, inEnvironment } from "../command.ts";
import { type EnvironmentOptions, withApi } from "../context.ts";
import { note, writeFields, writeJson, writeTable } from "../output.ts";
import { type AddressOptions, address, addressed } from "../session-address.ts";
import { integer } from "../values.ts";
import { registerSessionStart } from "./session-start.ts";
import { registerSessionStreams } from "./session-streams.ts";

type EndOptions = AddressOptions & { readonly reason?: string };

const exampleSession = "01990000-0000-7000-8000-000000000002";

export function register(program: Command): void {
  const group = declare(program, "session", "Start tasks and look at their sessions", [
    "helmr session start hello --follow",
  ]);
  registerSessionStart(group);
  inEnvironment(
    declare(group, "list", "List sessions, last changed first", [
      "helmr session list --status open",
      "helmr session list --task hello --json",
    ]),
  )
    .option("--status <status>", "open, closed, cancelled, expired or all")
    .option("--task <task>", "only sessions of this task")
    .option("--external-id <id>", "only the session with this external id")
    .option("--limit <n>", "at most this many", integer(1, 200))
    .action(list);
  addressed(group, "get", "Show one session", [
    `helmr session get ${exampleSession}`,
    "helmr session get --external-id order-7",
  ]).action(get);
  addressed(group, "runs", "List the runs of a session, in turn order", [
    `helmr session runs ${exampleSession}`,
  ]).action(runs);
  addressed(group, "cancel", "Cancel a session and its current run", [
    `helmr session cancel ${exampleSession} --reason obsolete`,
  ])
    .option("--reason <text>", "kept with the session")
    .action(end("cancel"));
  addressed(group, "close", "Close a session that has no active run", [
    `helmr session close ${exampleSession}`,
  ])
    .option("--reason <text>", "kept with the session")
    .action(end("close"));
  registerSessionStreams(group);
}

const list = (
  options: EnvironmentOptions & { status?: string; task?: string; externalId?: string; limit?: number },
): Promise<void> =>
  withApi(options, async (api) => {
    const query = {
      status: options.status,
      task_id: options.task,
      external_id: options.externalId,
      limit: options.limit,
    };
    const answer = await api.get("/sessions", { query, schema: "sessionList" });
    if (options.json) return writeJson(answer);
    await writeTable<Session>(
      [
        { header: "SESSION", value: (row) => row.id },
        { header: "TASK", value: (row) => row.task_id },
        { header: "STATUS", value: (row) => row.status },
        { header: "ACTIVITY", value: (row) => row.activity },
        { header: "EXTERNAL ID", value: (row) => row.external_id },
        { header: "UPDATED", value: (row) => row.updated_at },
      ],
      answer.sessions,
    );
  });

const get = (id: string | undefined, options: AddressOptions): Promise<void> =>
  withApi(options, async (api) => {
    const { path, query } = address(id, options);
    const session = await api.get(path, { query, schema: "session" });
    if (options.json) return writeJson(session);
    await writeSession(session);
  });

const runs = (id: string | undefined, options: AddressOptions): Promise<void> =>
  withApi(options, async (api) => {
    const { path, query } = address(id, options, "/runs");
    const answer = await api.get(path, { query, schema: "sessionRunList" });
    if (options.json) return writeJson(answer);
    await writeTable(
      [
        { header: "TURN", value: (row) => row.turn_index },
        { header: "RUN", value: (row) => row.run_id },
        { header: "STATUS", value: (row) => row.status },
        { header: "CREATED", value: (row) => row.created_at },
        { header: "ENDED", value: (row) => row.ended_at },
      ],
      answer.runs,
    );
  });

function end(action: "cancel" | "close"): (id: string | undefined, options: EndOptions) => Promise<void> {
  return (id, options) =>
    withApi(options, async (api) => {
      const { path, query } = address(id, options, `/${action}`);
      const session = await api.send("POST", path, {
        query,
        body: { reason: options.reason },
        schema: "session",
      });
      if (options.json) return writeJson(session);
      note(`session ${session.id} is ${session.status}`);
    });
}

function writeSession(session: Session): Promise<void> {
  const json = (value: unknown): string | undefined =>
    value === undefined ? undefined : JSON.stringify(value);
  return writeFields([
    ["session", session.id],
    ["task", session.task_id],
    ["status", session.status],
    ["activity", session.activity],
    ["external id", session.external_id],
    ["current run", session.current_run_id],
    ["workspace", session.workspace_id],
    ["tags", session.tags?.join(", ")],
    [
      "metadata",
      session.metadata && Object.keys(session.metadata).length > 0 ? json(session.metadata) : undefined,
    ],
    ["result", json(session.result)],
    ["error", json(session.error)],
    ["terminal reason", json(session.terminal_reason)],
    ["expires", session.expires_at],
    ["created", session.created_at],
    ["updated", session.updated_at],
  ]);
}
