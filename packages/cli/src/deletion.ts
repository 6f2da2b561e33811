/** Deleting a project or an environment: shows what goes with it, asks, deletes. */
import type { ApiClient } from "./client/api-client.ts";
import { confirm } from "./confirm.ts";
import type { ConnectionOptions } from "./context.ts";
import { CliError, exitCodes } from "./errors.ts";
import { note, writeJson } from "./output.ts";

export interface DeletionOptions extends ConnectionOptions {
  readonly yes?: boolean;
  readonly force?: boolean;
}

/** `what` names it for a person, such as `the project web`. */
export async function deleteWithPreview(
  api: ApiClient,
  target: {
    readonly path: string;
    readonly what: string;
    readonly id: string;
    readonly isEnvironment: boolean;
  },
  options: DeletionOptions,
): Promise<void> {
  const { counts } = await api.get(`${target.path}/deletion`, { schema: "deletionPreview" });
  // An environment counts itself.
  const { environments, ...within } = counts;
  const alsoDeleted = target.isEnvironment ? within : { environments, ...within };
  note(`${target.what} would be deleted with ${countsText(alsoDeleted)}`);
  const live = Object.entries(counts).filter(([name, count]) => name.startsWith("live_") && count > 0);
  if (live.length > 0 && !options.force) {
    throw new CliError(`${target.what} has work that is live: ${countsText(Object.fromEntries(live))}`, {
      exitCode: exitCodes.refused,
      hint: "wait until it is over, or cancel and delete it as well with --force",
    });
  }
  await confirm(`Delete ${target.what}? This cannot be undone.`, options.yes);
  await api.remove(target.path, options.force ? { force: "true" } : {});
  if (options.json) return writeJson({ id: target.id, deleted: true, counts });
  note(`${target.what} is deleted`);
}

/** What there is of it, such as `2 environments, 14 runs`. */
function countsText(counts: Readonly<Record<string, number>>): string {
  const given = Object.entries(counts).filter(([, count]) => count > 0);
  if (given.length === 0) return "nothing in it";
  return given.map(([name, count]) => `${count} ${wordOf(name, count)}`).join(", ");
}

function wordOf(name: string, count: number): string {
  const words = name.replaceAll("_", " ").replace("api", "API");
  return count === 1 ? words.replace(/s$/, "") : words;
}
