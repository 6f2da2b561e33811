/** `helmr sandbox`: the sandboxes of the current deployment. */
import type { Command } from "commander";
import type { Sandbox } from "../client/wire.ts";
import { declare, inEnvironment } from "../command.ts";
import { type EnvironmentOptions, withApi } from "../context.ts";
import { writeFields, writeJson, writeTable } from "../output.ts";

export function register(program: Command): void {
  const group = declare(program, "sandbox", "Look at the sandboxes of the current deployment", [
    "helmr sandbox list",
  ]);
  inEnvironment(declare(group, "list", "List the sandboxes", ["helmr sandbox list"])).action(list);
  inEnvironment(declare(group, "get <sandbox>", "Show one sandbox", ["helmr sandbox get hello"])).action(get);
}

const list = (options: EnvironmentOptions): Promise<void> =>
  withApi(options, async (api) => {
    const answer = await api.get("/sandboxes", { schema: "sandboxList" });
    if (options.json) return writeJson(answer);
    await writeTable<Sandbox>(
      [
        { header: "SANDBOX", value: (row) => row.sandbox_id },
        { header: "RESOURCES", value: resources },
        { header: "WORKSPACE", value: (row) => row.workspace_mount_path },
        { header: "IMAGE", value: (row) => row.image_digest.slice(0, 19) },
        { header: "CREATED", value: (row) => row.created_at },
      ],
      answer.sandboxes,
    );
  });

const get = (id: string, options: EnvironmentOptions): Promise<void> =>
  withApi(options, async (api) => {
    const sandbox = await api.get(`/sandboxes/${encodeURIComponent(id)}`, { schema: "sandbox" });
    if (options.json) return writeJson(sandbox);
    await writeFields([
      ["sandbox", sandbox.sandbox_id],
      ["id", sandbox.id],
      ["deployment", sandbox.deployment_id],
      ["resources", resources(sandbox)],
      ["workspace", sandbox.workspace_mount_path],
      ["workdir", sandbox.default_workdir],
      ["image", sandbox.image_digest],
      ["fingerprint", sandbox.fingerprint],
      ["created", sandbox.created_at],
    ]);
  });

function resources(sandbox: Sandbox): string {
  const floor = sandbox.resource_floor;
  return [
    ...(floor ? [`${floor.milli_cpu / 1000} CPU`, `${floor.memory_mib} MiB`] : []),
    `${sandbox.disk_floor_mib} MiB disk`,
  ].join(", ");
}
