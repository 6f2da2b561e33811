/** What the current deployment declares: tasks and sandboxes (contract 9). */
import { listCurrentSandboxes, listCurrentTasks } from "@helmr/store";
import type { Context } from "../context.ts";
import type { Handlers } from "../http/handlers.ts";
import { presentSandbox, presentTask } from "../present/deployment.ts";
import { found } from "./found.ts";

export function catalogHandlers({
  db,
}: Context): Pick<Handlers, "listTasks" | "getTask" | "listSandboxes" | "getSandbox"> {
  return {
    listTasks: async ({ scope }) => {
      const tasks = await listCurrentTasks(db, scope);
      return { status: 200, body: { tasks: tasks.map(presentTask) } };
    },
    getTask: async ({ scope, params }) => {
      const [task] = await listCurrentTasks(db, scope, params.taskID);
      return { status: 200, body: presentTask(found(task, "task")) };
    },
    listSandboxes: async ({ scope }) => {
      const sandboxes = await listCurrentSandboxes(db, scope);
      return { status: 200, body: { sandboxes: sandboxes.map(presentSandbox) } };
    },
    getSandbox: async ({ scope, params }) => {
      const [sandbox] = await listCurrentSandboxes(db, scope, params.sandboxID);
      return { status: 200, body: presentSandbox(found(sandbox, "sandbox")) };
    },
  };
}
