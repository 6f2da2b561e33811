/** What is released, and what a person answers: Standard Schemas by hand, so that the project needs no other package. */
import type { PayloadSchema } from "@helmr/sdk";

export interface Release {
  readonly version: string;
  readonly changes: readonly string[];
  /** How long the approval is waited for. Default "24h". */
  readonly timeout?: string;
  /** Where web/server.ts runs. Default "http://127.0.0.1:4600". */
  readonly page?: string;
}

/** What the page sends. */
export interface Decision {
  readonly approved: boolean;
  readonly by: string;
  readonly comment: string;
}

const limits = { version: 40, changes: 50, change: 200, by: 100, comment: 1000 };

const isText = (value: unknown, longest: number): value is string =>
  typeof value === "string" && value.trim() !== "" && value.length <= longest;

export const release: PayloadSchema<Release, Required<Release>> = {
  "~standard": {
    version: 1,
    vendor: "helmr-example",
    validate: (value) => {
      const given = (value ?? {}) as Record<string, unknown>;
      const { version, changes, timeout = "24h", page = "http://127.0.0.1:4600" } = given;
      const issue = (path: string, message: string) => ({ issues: [{ message, path: [path] }] });
      if (!isText(version, limits.version))
        return issue("version", `must be text of 1 to ${limits.version} characters`);
      if (!Array.isArray(changes) || changes.length === 0 || changes.length > limits.changes)
        return issue("changes", `must be a list of 1 to ${limits.changes} texts`);
      if (!changes.every((change) => isText(change, limits.change)))
        return issue("changes", `each must be text of 1 to ${limits.change} characters`);
      if (typeof timeout !== "string") return issue("timeout", 'must be a duration such as "24h"');
      if (typeof page !== "string" || !URL.canParse(page)) return issue("page", "must be a URL");
      return { value: { version, changes, timeout, page } };
    },
  },
};

/** Whoever holds the link can send anything: undefined when it is not a decision. */
export function readDecision(value: unknown): Decision | undefined {
  const { approved, by, comment = "" } = (value ?? {}) as Record<string, unknown>;
  if (typeof approved !== "boolean" || !isText(by, limits.by)) return undefined;
  if (typeof comment !== "string" || comment.length > limits.comment) return undefined;
  return { approved, by, comment };
}
