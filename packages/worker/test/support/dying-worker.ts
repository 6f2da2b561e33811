/** A program: a worker that kills itself, as SIGKILL does, at the named debug point. */
import type { DebugPoint } from "../../src/index.ts";
import { startSystemWorker, type WorkerSettings } from "./system.ts";

const [settings = "", point = ""] = process.argv.slice(2);
await startSystemWorker(JSON.parse(settings) as WorkerSettings, {
  onDebugPoint: async (reached: DebugPoint) => {
    if (reached !== point) return;
    process.kill(process.pid, "SIGKILL");
    await new Promise(() => undefined);
  },
});
console.log("ready");
