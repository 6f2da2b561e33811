/** The checks that run no test: lint, types, unused code, and generated files that must match their source. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";

const root = join(import.meta.dirname, "../..");

interface Step {
  readonly name: string;
  readonly argv: readonly [string, ...string[]];
  /** Said with a failure. */
  readonly mend: string;
}

const steps: readonly Step[] = [
  { name: "lint", argv: ["biome", "ci", "--error-on-warnings"], mend: "npx biome check --write" },
  { name: "types", argv: ["tsc", "-p", "."], mend: "mend the types above" },
  {
    name: "unused code",
    argv: ["knip"],
    mend: "remove what is named above, or declare its entry in knip.json",
  },
  {
    name: "openapi, API reference",
    argv: ["node", "packages/api/scripts/openapi.ts", "--check"],
    mend: "node packages/api/scripts/openapi.ts",
  },
  {
    name: "schema dump",
    argv: ["node", "packages/store/scripts/schema.ts", "--check"],
    mend: "node packages/store/scripts/schema.ts",
  },
];

/** A step whose script a package does not have yet is left out. */
function isPresent(step: Step): boolean {
  const script = step.argv[1];
  return step.argv[0] !== "node" || script === undefined || existsSync(join(root, script));
}

/** Run every check, one after the other, and return the names of those that failed. */
export async function runChecks(): Promise<string[]> {
  const failed: string[] = [];
  for (const step of steps.filter(isPresent)) {
    const [command, ...args] = step.argv;
    const startedAt = performance.now();
    const result = await execa(command, args, {
      cwd: root,
      preferLocal: true,
      stdin: "ignore",
      all: true,
      reject: false,
      timeout: 10 * 60_000,
    });
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
    if (!result.failed) {
      console.log(`ok      ${step.name} (${seconds} s)`);
      continue;
    }
    failed.push(step.name);
    console.log(result.all || result.message);
    console.log(`FAILED  ${step.name} (${seconds} s): ${step.mend}`);
  }
  return failed;
}
