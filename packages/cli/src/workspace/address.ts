/** How commands name a workspace: by its id, or by the caller's own external id. */
import type { Command } from "commander";
import type { ApiClient } from "../client/api-client.ts";
import { declare, inEnvironment } from "../command.ts";
import { CliError, exitCodes } from "../errors.ts";
import { plain } from "../output.ts";

export const exampleWorkspace = "notebook-7";
const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** A command about one workspace; `rest` is what comes after the workspace. */
export function ofWorkspace(
  group: Command,
  signature: string,
  summary: string,
  examples: readonly string[],
): Command {
  const [name = "", ...rest] = signature.split(" ");
  return inEnvironment(declare(group, [name, "<workspace>", ...rest].join(" "), summary, examples));
}

/** The path of the workspace with this id or external id. Throws exit code 3 when there is none. */
export async function workspacePath(api: ApiClient, name: string): Promise<string> {
  return `/workspaces/${await workspaceId(api, name)}`;
}

export async function workspaceId(api: ApiClient, name: string): Promise<string> {
  if (uuid.test(name)) return name.toLowerCase();
  const { workspaces } = await api.get("/workspaces", {
    query: { external_id: name },
    schema: "workspaceList",
  });
  const found = workspaces.find(({ state }) => state === "active") ?? workspaces[0];
  if (found !== undefined) return found.id;
  throw new CliError(`there is no workspace ${plain(name)}`, {
    exitCode: exitCodes.notFound,
    hint: "name it by its id or external id; `helmr workspace list` shows both",
  });
}
