/** Greets, says so in the log and in the run's metadata, and leaves a file in the workspace. */
import { writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { image, logger, metadata, sandbox, task } from "@helmr/sdk";
import { greeting } from "./greeting.ts";

const box = sandbox("hello")
  .image(image("hello").from("node:24-bookworm-slim"))
  .workspace("/workspace")
  .resources({ cpu: 1, memory: "512Mi" });

export const hello = task({
  id: "hello",
  sandbox: box,
  maxDuration: 60,
  payload: greeting,
  run: async ({ name }, ctx) => {
    const text = `Hello, ${name}!`;
    logger.info(text);
    metadata.set("greeted", name);

    // The working directory is the workspace; what is written there outlives the run.
    const file = join(ctx.workspace.path, "greeting.txt");
    await writeFile(file, `${text}\n`);
    logger.info(`wrote ${file} as process ${process.pid} of ${hostname()}`);

    return { greeting: text, file };
  },
});
