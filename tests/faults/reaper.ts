/** A process beside the driver: when the driver is gone, however it went, it removes what the driver's cluster left. */
import { rmSync } from "node:fs";
import { cleanUp } from "./clean.ts";

const [folder = ""] = process.argv.slice(2);
if (!folder.startsWith("/") || folder.length < 10) throw new Error("usage: reaper.ts FOLDER");
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => undefined);
let word = "";
// The driver says "done" when there is nothing to do; else its end closes the pipe.
for await (const piece of process.stdin) word += piece;
if (word !== "done") {
  await cleanUp(folder);
  rmSync(folder, { recursive: true, force: true });
}
