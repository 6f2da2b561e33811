/** `helmr worker`: the machines that run guests, for who operates the installation. */
import { type Command, Option } from "commander";
import type { Worker } from "../client/wire.ts";
import { connected, declare } from "../command.ts";
import { confirm } from "../confirm.ts";
import { type ConnectionOptions, withOperator } from "../context.ts";
import { note, paintStatus, writeFields, writeJson, writeTable } from "../output.ts";
import { integer } from "../values.ts";

interface ListOptions extends ConnectionOptions {
  readonly group?: string;
  readonly state?: string;
  readonly limit: number;
  readonly cursor?: string;
}

export function register(program: Command): void {
  const group = declare(program, "worker", "See and drain workers (for operators)", ["helmr worker list"]);
  connected(
    declare(group, "list", "List workers", [
      "helmr worker list",
      "helmr worker list --group gpu --state active",
    ]),
  )
    .option("--group <group>", "of this worker group only, by name or id")
    .addOption(new Option("--state <state>", "these only").choices(["active", "draining", "gone"]))
    .option("--limit <n>", "at most so many", integer(1, 500), 100)
    .option("--cursor <cursor>", "after the page that gave it")
    .action(list);
  connected(
    declare(group, "get <worker>", "Show a worker: capacity, what it holds, when it was heard of", [
      "helmr worker get 0190d0d5-0c3e-7000-8000-000000000000",
    ]),
  ).action(get);
  connected(
    declare(
      group,
      "drain <worker>",
      "Give a worker nothing new, until it is undrained; what it has ends or is parked",
      ["helmr worker drain 0190d0d5-0c3e-7000-8000-000000000000"],
    ),
  ).action((id: string, options: ConnectionOptions) => change(id, "drain", options));
  connected(
    declare(group, "undrain <worker>", "Give a drained worker work again", [
      "helmr worker undrain 0190d0d5-0c3e-7000-8000-000000000000",
    ]),
  ).action((id: string, options: ConnectionOptions) => change(id, "undrain", options));
  connected(
    declare(group, "revoke <worker>", "Void a worker's credential: it must register anew", [
      "helmr worker revoke 0190d0d5-0c3e-7000-8000-000000000000 --yes",
    ]),
  )
    .option("-y, --yes", "do not ask")
    .action(revoke);
  connected(
    declare(group, "remove <worker>", "Forget a worker that is gone", [
      "helmr worker remove 0190d0d5-0c3e-7000-8000-000000000000",
    ]),
  ).action(remove);
}

const pathOf = (id: string): string => `/workers/${encodeURIComponent(id)}`;

const list = ({ group, state, limit, cursor, ...options }: ListOptions): Promise<void> =>
  withOperator(options, async (api) => {
    const query = { worker_group: group, state, limit, cursor };
    const answer = await api.get("/workers", { query, schema: "workerList" });
    if (options.json) return writeJson(answer);
    await writeTable<Worker>(
      [
        { header: "WORKER", value: (row) => row.id },
        { header: "NAME", value: (row) => row.name },
        { header: "GROUP", value: (row) => row.worker_group.name },
        { header: "STATE", value: (row) => paintStatus(row.state) },
        { header: "HOLDS", value: (row) => `${row.held.slots} guests, ${row.held.builds} builds` },
        { header: "FREE", value: (row) => (row.free === undefined ? "" : amountsOf(row.free)) },
        { header: "VERSION", value: (row) => row.version },
        { header: "HEARD OF", value: (row) => row.last_heartbeat_at },
      ],
      answer.workers,
    );
    if (answer.next_cursor !== undefined) note(`hint: there are more: --cursor ${answer.next_cursor}`);
  });

const get = (id: string, options: ConnectionOptions): Promise<void> =>
  withOperator(options, async (api) => {
    const worker = await api.get(pathOf(id), { schema: "worker" });
    if (options.json) return writeJson(worker);
    await writeFields([
      ["worker", worker.id],
      ["name", worker.name],
      ["group", worker.worker_group.name],
      ["state", worker.state],
      ["drained since", worker.drain_requested_at],
      ["version", worker.version],
      ["labels", labelsOf(worker.labels)],
      ["driver", [worker.driver, worker.driver_version, worker.architecture].filter(Boolean).join(" ")],
      ["capacity", amountsOf(worker.capacity)],
      ["holds", `${amountsOf(worker.held)}, ${worker.held.builds} builds`],
      ["free", worker.free && amountsOf(worker.free)],
      ["says is free", worker.reported_free && amountsOf(worker.reported_free)],
      ["registered", worker.registered_at],
      ["credential of", worker.credential_issued_at],
      ["heard of", worker.last_heartbeat_at],
    ]);
  });

const change = (id: string, what: "drain" | "undrain", options: ConnectionOptions): Promise<void> =>
  withOperator(options, async (api) => {
    const worker = await api.send("POST", `${pathOf(id)}/${what}`, { schema: "worker" });
    if (options.json) return writeJson(worker);
    note(
      what === "drain"
        ? `the worker ${worker.name} is given nothing new; it holds ${worker.held.slots} guests`
        : `the worker ${worker.name} is ${worker.state}`,
    );
  });

const revoke = (id: string, { yes, ...options }: ConnectionOptions & { yes?: boolean }): Promise<void> =>
  withOperator(options, async (api) => {
    await confirm(
      "The worker loses what it runs, unless it registers anew in time. Void its credential?",
      yes,
    );
    const worker = await api.send("POST", `${pathOf(id)}/revoke-credential`, { schema: "worker" });
    if (options.json) return writeJson(worker);
    note(`the credential of ${worker.name} is void`);
    note("hint: it registers anew where its bootstrap token is good: revoke that, too, to keep it out");
  });

const remove = (id: string, options: ConnectionOptions): Promise<void> =>
  withOperator(options, async (api) => {
    await api.remove(pathOf(id));
    if (options.json) return writeJson({ id, removed: true });
    note(`the worker ${id} is forgotten`);
  });

/** `2 cpu, 4096 MiB memory, …`, of what is there. */
function amountsOf(amounts: Readonly<Record<string, unknown>>): string {
  const units: Readonly<Record<string, string>> = {
    slots: "guests",
    runs: "runs",
    cpu: "cpu",
    memory_mib: "MiB memory",
    disk_mib: "MiB disk",
  };
  return Object.entries(units)
    .filter(([name]) => typeof amounts[name] === "number")
    .map(([name, unit]) => `${String(amounts[name])} ${unit}`)
    .join(", ");
}

export function labelsOf(labels: Readonly<Record<string, string>>): string | undefined {
  const text = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
  return text.length === 0 ? undefined : text.join(" ");
}
