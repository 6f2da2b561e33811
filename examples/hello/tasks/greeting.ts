/** The payload of `hello`: a Standard Schema written by hand, so that the project needs no other package. */
import type { PayloadSchema } from "@helmr/sdk";

export interface Greeting {
  /** Who is greeted; "world" when absent. */
  readonly name?: string;
}

const longestName = 100;

export const greeting: PayloadSchema<Greeting, Required<Greeting>> = {
  "~standard": {
    version: 1,
    vendor: "helmr-example",
    validate: (value) => {
      const { name = "world" } = (value ?? {}) as { name?: unknown };
      if (typeof name !== "string") return { issues: [{ message: "must be a string", path: ["name"] }] };
      if (name.trim() === "" || name.length > longestName) {
        return { issues: [{ message: `must have 1 to ${longestName} characters`, path: ["name"] }] };
      }
      return { value: { name } };
    },
  },
};
