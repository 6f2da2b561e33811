/** Tasks that wait, for the tests of parking. */
import { baseImage, type Files } from "./bench.ts";
import { config, packageJson } from "./projects.ts";

const tasks = `
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, fsyncSync, linkSync, lstatSync, mkdirSync, openSync, readFileSync, readdirSync, statSync, symlinkSync, utimesSync, writeFileSync, writeSync, chmodSync } from "node:fs";
import { lookup } from "node:dns/promises";
import { image, sandbox, streams, task, timers, tokens } from "@helmr/sdk";

const plain = sandbox("plain").image(image("plain").from("${baseImage}")).resources({ cpu: 1, memory: "512MiB" });
const layered = sandbox("layered")
  .image(
    image("layered").from("${baseImage}").run(["sh", "-c",
      "mkdir -p /made/dir && echo built > /made/file && chmod 4751 /made/file && chown 12:34 /made/dir && rm -rf /usr/share/doc /etc/issue && mkdir /usr/share/doc && echo only > /usr/share/doc/only"]),
  )
  .resources({ cpu: 1, memory: "512MiB" });
const answers = streams.input("answers");
const news = streams.output("news");
const any = { "~standard": { version: 1, vendor: "hand", validate: (value) => ({ value }) } };

const stat = (path) => {
  const { mode, size, mtimeMs, ino, nlink } = lstatSync(path);
  return { mode, size, mtimeMs, nlink };
};
const workspace = () => ["file", "hard", "soft", "dir"].map((name) => [name, stat(name)]);

/** Everything a process can have, before and after; two waits. */
export const everything = task({
  id: "everything", sandbox: plain, maxDuration: 600,
  secrets: [{ name: "TOKEN", env: "TOKEN" }, { name: "KEY", file: "/run/key" }],
  run: async () => {
    const child = spawn("cat");
    let heard = "";
    child.stdout.on("data", (data) => { heard += data; });
    child.stdin.write("before\\n");
    while (!heard.includes("before")) await once(child.stdout, "data");
    const open = openSync("file", "a");
    writeSync(open, "one\\n");
    linkSync("file", "hard");
    symlinkSync("/nowhere", "soft");
    mkdirSync("dir", { mode: 0o700 });
    chmodSync("file", 0o640);
    utimesSync("dir", 1000, 2000.5);
    writeFileSync("/tmp/kept", "in memory");
    const held = new Map([["marker", "m" + process.pid]]);
    const before = { pid: process.pid, child: child.pid, files: workspace(), hostname: readFileSync("/etc/hostname", "utf8") };
    console.log("before");
    const seen = [];
    for (let round = 1; round <= 2; round++) {
      const token = await tokens.create();
      const answer = await token.wait().unwrap();
      child.stdin.write("round" + round + "\\n");
      while (!heard.includes("round" + round)) await once(child.stdout, "data");
      const files = workspace();
      writeSync(open, "round " + round + "\\n");
      seen.push({
        answer, pid: process.pid, child: child.pid, marker: held.get("marker"), files, tmp: readFileSync("/tmp/kept", "utf8"),
        content: readFileSync("file", "utf8"), env: process.env.TOKEN, file: readFileSync("/run/key", "utf8"),
        hostname: readFileSync("/etc/hostname", "utf8"),
      });
      before.files = workspace();
      if (round === 1) seen[0].same = JSON.stringify(files);
      console.log("round " + round);
    }
    const address = await lookup("localhost").then((found) => found.address, (error) => String(error));
    closeSync(open);
    child.kill();
    return { before, seen, address };
  },
});

/** Waits for one token. */
export const asks = task({
  id: "asks", sandbox: plain, maxDuration: 600, payload: any,
  run: async ({ timeout } = {}) => {
    const token = await tokens.create();
    console.log("asking");
    const answer = await token.wait(timeout === undefined ? {} : { timeout });
    console.log("answered");
    return answer.ok ? answer.data : answer.error.name;
  },
});

/** The same on an image with a layer of its own. */
export const layers = task({
  id: "layers", sandbox: layered, maxDuration: 600,
  run: async () => {
    const look = () => ({
      file: stat("/made/file").mode, dir: [statSync("/made/dir").uid, statSync("/made/dir").gid], docs: readdirSync("/usr/share/doc"),
      issue: existsSync("/etc/issue"), content: readFileSync("/made/file", "utf8"), sdk: statSync("/opt/helmr/agent.mjs").mtimeMs,
      source: statSync("/opt/helmr-task/.helmr/deployment-source/package.json").mtimeMs,
    });
    const before = look();
    const token = await tokens.create();
    await token.wait().unwrap();
    return { before, after: look() };
  },
});

/** Works for a while before and after its wait. */
export const works = task({
  id: "works", sandbox: plain, maxDuration: 600, payload: any,
  run: async ({ beforeMs, afterMs }) => {
    const work = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    await work(beforeMs);
    const token = await tokens.create();
    await token.wait().unwrap();
    await work(afterMs);
    return "worked";
  },
});

/** Speaks without a pause while it waits, and listens beside. */
export const speaks = task({
  id: "speaks", sandbox: plain, maxDuration: 600, payload: any,
  run: async ({ rounds }) => {
    const heard = [];
    const subscription = answers.on((record) => { heard.push(record); });
    for (let round = 1; round <= rounds; round++) {
      for (let at = 0; at < 5; at++) { await news.append({ round, at }); console.log("said " + round + "." + at); }
      const token = await tokens.create();
      const waiting = token.wait().unwrap();
      void news.append({ round, at: "beside" });
      console.log("waiting " + round);
      await waiting;
    }
    const until = Date.now() + 20000;
    while (heard.length < 2 && Date.now() < until) await new Promise((resolve) => setTimeout(resolve, 20));
    subscription.stop();
    return heard;
  },
});

/** Holds a text that is nowhere in its source. */
export const remembers = task({
  id: "remembers", sandbox: plain, maxDuration: 600,
  run: async () => {
    const kept = Buffer.alloc(1 << 20, ["plant", "ed-", "mark", "er"].join("") + "/");
    const token = await tokens.create();
    await token.wait().unwrap();
    return kept.length;
  },
});
`;

export const waitingTasks: Files = {
  "package.json": packageJson(),
  "helmr.config.ts": config,
  "tasks/main.ts": tasks,
};
