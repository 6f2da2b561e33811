/** What comes from outside: Standard Schemas by hand, so that the project needs no other package. */
import type { PayloadSchema } from "@helmr/sdk";

export interface Options {
  /** How long the agent waits for the next instruction before its run ends. Default "24h". */
  readonly idleTimeout?: string;
}
/** One of the two. `end` ends the run; what is sent later starts the next one on the same workspace. */
export type Instruction = { readonly text: string } | { readonly end: true };

const longestText = 20_000;

function schema<In, Out>(
  check: (given: Record<string, unknown>) => Out | { problem: string; path?: string },
): PayloadSchema<In, Out> {
  return {
    "~standard": {
      version: 1,
      vendor: "helmr-example",
      validate: (value) => {
        const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
        const checked = isObject ? check({ ...value }) : { problem: "must be an object" };
        if (typeof checked !== "object" || checked === null || !("problem" in checked))
          return { value: checked as Out };
        const { problem, path } = checked as { problem: string; path?: string };
        return { issues: [{ message: problem, path: path === undefined ? [] : [path] }] };
      },
    },
  };
}

export const options = schema<Options, Required<Options>>(({ idleTimeout = "24h" }) =>
  typeof idleTimeout === "string"
    ? { idleTimeout }
    : { problem: 'must be a duration such as "24h"', path: "idleTimeout" },
);

export const instruction = schema<Instruction, Instruction>(({ text, end }) => {
  if (end === true) return { end };
  if (typeof text === "string" && text.trim() !== "" && text.length <= longestText) return { text };
  return { problem: `must be text of 1 to ${longestText} characters (or send {"end": true})`, path: "text" };
});
