/** The notebook's sandbox, and a task that works in the same files as the person at the page. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { image, logger, sandbox, task } from "@helmr/sdk";

const notebook = sandbox("notebook")
  .image(image("notebook").from("node:24-bookworm-slim"))
  .workspace("/workspace")
  .resources({ cpu: 1, memory: "512Mi", disk: "512Mi" })
  .network({ internet: false });

/** Counts the lines of the notebook's files. */
export const tally = task({
  id: "tally",
  sandbox: notebook,
  maxDuration: 60,
  run: async (ctx) => {
    const entries = await readdir(ctx.workspace.path, { recursive: true, withFileTypes: true });
    const files = entries.filter((entry) => entry.isFile());
    let lines = 0;
    for (const file of files)
      lines += (await readFile(join(file.parentPath, file.name), "utf8")).split("\n").length - 1;
    logger.info(`${lines} lines in ${files.length} files`);
    return { files: files.length, lines };
  },
});
