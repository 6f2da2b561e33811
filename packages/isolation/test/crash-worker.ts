/**
 * A worker for the crash test: starts three guests (network and held by a checkpoint, none and frozen, capturing writes),
 * says "up", and waits to be killed.
 */
import { mkdir, readdir } from "node:fs/promises";
import path from "node:path";
import { setImmediate } from "node:timers/promises";
import { resolveOptions } from "../src/gvisor/options.ts";
import { createGvisorIsolation, type GvisorOptions } from "../src/index.ts";
import { guestSpec, shell, waitForOutput } from "./bench-guest.ts";

/**
 * `dies`: the worker kills itself in the middle of saving or restoring its last guest, or while that waits for its checkpoint,
 * after "up".
 */
interface WorkerSettings {
  readonly dies?: "saving" | "waiting" | "restoring";
  readonly options: GvisorOptions;
  readonly root: string;
  readonly scratch: string;
}

const { options, root, scratch, dies } = JSON.parse(process.env.HELMR_TEST_WORKER ?? "{}") as WorkerSettings;
const isolation = createGvisorIsolation(options);
const bench = { isolation, root, scratch, another: () => isolation, leftovers: async () => [] };
const argv = shell("echo up; sleep 1000");
const specs = [
  guestSpec(bench, argv, { network: { mode: "internet", deny: ["198.51.100.0/24"] } }),
  guestSpec(bench, argv),
  guestSpec(bench, argv, { captureWritesTo: path.join(scratch, "crash", "layer") }),
];
for (const [index, spec] of specs.entries()) {
  const guest = await isolation.start(spec);
  await waitForOutput(guest, /up/);
  if (index === 0) {
    const directory = path.join(scratch, "crash", `image-${process.pid}`);
    await mkdir(directory, { recursive: true });
    await guest.checkpoint({ directory });
  }
  if (index === 1) await guest.pause(); // A frozen guest takes no signal under cgroup version 1.
}

process.on("message", () => {
  void isolation.close().then(() => process.disconnect());
});
process.send?.("up");

if (dies !== undefined) {
  const directory = path.join(scratch, "crash", `dying-${process.pid}`);
  await mkdir(directory, { recursive: true });
  const spec = guestSpec(bench, argv);
  const guest = await isolation.start(spec);
  const die = () => process.kill(process.pid, "SIGKILL");
  // The first file of the image, or runsc's state of the restored sandbox: both come in the middle of the work.
  const watched = dies === "saving" ? directory : path.join(resolveOptions(options).runtimeDir, "t-dying");
  const record = dies === "saving" ? undefined : await guest.checkpoint({ directory });
  if (record !== undefined) await guest.destroy();
  const restored = { ...spec, id: "t-dying" };
  const work =
    record === undefined
      ? guest.checkpoint({ directory })
      : dies === "waiting"
        ? isolation.prepareRestore(restored, directory)
        : isolation.restore(restored, { directory, record });
  work.catch(() => undefined);
  for (;;) {
    if ((await readdir(watched).catch(() => [])).length > 0) die();
    await setImmediate();
  }
}
