/** docs/configuration.md is made from the variables' schemas: `vitest run … --update` writes it anew. */
import { type ConfigShape, describeVariables } from "@helmr/process";
import { expect, test } from "vitest";
import { dispatcherVariables } from "../../dispatcher/src/process/variables.ts";
import { workerVariables } from "../../worker/src/process/variables.ts";
import { controlVariables } from "../src/process/variables.ts";

const table = (shape: ConfigShape) =>
  [
    "| variable | default | what |",
    "|---|---|---|",
    ...describeVariables(shape).map(
      ({ name, standard, description }) =>
        `| \`${name}\` | ${standard === "required" ? "**required**" : standard && `\`${standard}\``} | ${description} |`,
    ),
  ].join("\n");

const page = `# Configuration

<!-- Made from the schemas in packages/*/src/process: change them there. -->

Every process reads environment variables once, at its start. All problems are reported together; no message repeats a value.
An empty variable counts as not set. How the parts fit together: [self-hosting](self-hosting.md).

## \`helmr-control\`

${table(controlVariables)}

\`helmr-control migrate\` needs \`HELMR_DATABASE_URL\` only, \`helmr-control secrets reencrypt\` also the two keys, \`helmr-control
artifacts reencrypt\` also the store's variables and its two keys.

## \`helmr-dispatcher\`

${table(dispatcherVariables)}

## \`helmr-worker\`

${table(workerVariables)}
`;

test("the page is what the schemas say", async () => {
  await expect(page).toMatchFileSnapshot("../../../docs/configuration.md");
});
