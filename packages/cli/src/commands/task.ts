/** `helmr task`: the tasks of the current deployment. */
import type { Command } from "commander";
import type { Task } from "../client/wire.ts";
import { declare, inEnvironment } from "../command.ts";
import { type EnvironmentOptions, withApi } from "../context.ts";
import { writeFields, writeJson, writeTable } from "../output.ts";

export function register(program: Command): void {
  const group = declare(program, "task", "Look at the tasks of the current deployment", ["helmr task list"]);
  inEnvironment(
    declare(group, "list", "List the tasks", ["helmr task list", "helmr task list --json"]),
  ).action(list);
  inEnvironment(declare(group, "get <task>", "Show one task", ["helmr task get hello"])).action(get);
}

const list = (options: EnvironmentOptions): Promise<void> =>
  withApi(options, async (api) => {
    const answer = await api.get("/tasks", { schema: "taskList" });
    if (options.json) return writeJson(answer);
    await writeTasks(answer.tasks);
  });

/** The table of `task list`, also what a deploy ends with. */
export function writeTasks(tasks: readonly Task[]): Promise<void> {
  return writeTable(
    [
      { header: "TASK", value: (row) => row.task_id },
      { header: "QUEUE", value: (row) => row.queue_name },
      { header: "FILE", value: (row) => row.file_path },
      { header: "EXPORT", value: (row) => row.export_name },
    ],
    tasks,
  );
}

const get = (id: string, options: EnvironmentOptions): Promise<void> =>
  withApi(options, async (api) => {
    const task = await api.get(`/tasks/${encodeURIComponent(id)}`, { schema: "task" });
    if (options.json) return writeJson(task);
    await writeFields([
      ["task", task.task_id],
      ["id", task.id],
      ["file", task.file_path],
      ["export", task.export_name],
      ["queue", task.queue_name],
      ["concurrency limit", task.concurrency_limit],
      ["ttl", task.ttl],
      ["created", task.created_at],
    ]);
  });
