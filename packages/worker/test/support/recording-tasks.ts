/** A task that leaves a record of each step, on a stream and on stdout, with which of its starts it was. */
import { baseImage, type Files } from "./bench.ts";
import { config, packageJson } from "./projects.ts";

const tasks = `
import { randomUUID } from "node:crypto";
import { image, sandbox, streams, task, tokens } from "@helmr/sdk";

const plain = sandbox("plain").image(image("plain").from("${baseImage}")).resources({ cpu: 1, memory: "512MiB" });
const record = streams.output("record");

export const records = task({
  id: "records", sandbox: plain, maxDuration: 600,
  run: async () => {
    const start = randomUUID();
    let count = 0;
    const did = async (step) => {
      count += 1;
      console.log(step);
      await record.append({ step, count, start });
    };
    const token = await tokens.create();
    await did("begun");
    const answer = await token.wait().unwrap();
    await did("answered");
    return { start, count, answer };
  },
});
`;

export const recordingTasks: Files = {
  "package.json": packageJson(),
  "helmr.config.ts": config,
  "tasks/main.ts": tasks,
};
