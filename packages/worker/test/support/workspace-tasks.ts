/** Tasks that leave files, for the tests of workspaces. */
import { baseImage, type Files } from "./bench.ts";
import { config, packageJson } from "./projects.ts";

const tasks = `
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, openSync, readFileSync, readdirSync, statSync, writeFileSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { image, sandbox, task, tokens } from "@helmr/sdk";

const box = sandbox("box").image(image("box").from("${baseImage}")).resources({ cpu: 1, memory: "512MiB", disk: "256MiB" });
const any = { "~standard": { version: 1, vendor: "hand", validate: (value) => ({ value }) } };
const options = { sandbox: box, maxDuration: 600, payload: any };
const read = (name) => (existsSync(name) ? readFileSync(name, "utf8") : null);
const write = (files) => {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(name), { recursive: true });
    writeFileSync(name, content);
  }
};
const settled = async (name) => {
  while (!existsSync(name)) await new Promise((resolve) => setTimeout(resolve, 20));
};

/** What it finds, then what it writes. */
export const writes = task({
  id: "writes", ...options,
  run: async ({ files = {}, reads = [], fails = false }) => {
    const found = Object.fromEntries(reads.map((name) => [name, read(name)]));
    write(files);
    if (fails) throw new Error("as it was told");
    return { found, names: readdirSync(".").sort() };
  },
});

/** Stays until a file called "go" is in the workspace. */
export const stays = task({
  id: "stays", ...options,
  run: async ({ files = {} }) => {
    write(files);
    console.log("here");
    await settled("go");
    return readdirSync(".").sort();
  },
});

/** Waits for a token, with a file open, something in memory, a secret and a FIFO in the workspace. */
export const waits = task({
  id: "waits", ...options, secrets: [{ name: "KEY", file: "conf/key" }],
  run: async ({ files = {}, fifo = false }) => {
    write(files);
    const log = openSync("log", "a");
    writeSync(log, "before ");
    if (fifo) execFileSync("mkfifo", ["pipes/fifo"]);
    const marker = "m" + process.pid;
    const token = await tokens.create();
    const answer = await token.wait().unwrap();
    writeSync(log, "after");
    return {
      answer, kept: marker === "m" + process.pid, log: read("log"), key: read("conf/key"),
      note: read("note"), isFifo: fifo && statSync("pipes/fifo").isFIFO(),
    };
  },
});
`;

export const workspaceTasks: Files = {
  "package.json": packageJson(),
  "helmr.config.ts": config,
  "tasks/main.ts": tasks,
};
