/**
 * The wire schemas of @helmr/api, by name. They are loaded with the first answer: help and completion do without them
 * (zod and all schemas take 150 ms to load, everything else of a command 100 ms).
 */
import type { z } from "zod";
import { CliError, exitCodes } from "../errors.ts";
import { cliVersion } from "../version.ts";

export type {
  ApiKey,
  BootstrapToken,
  Deployment,
  Environment,
  Event,
  Invitation,
  Me,
  Member,
  Project,
  Queue,
  RoutedEnvironment,
  Run,
  RunLogFrame,
  Sandbox,
  Schedule,
  Secret,
  Session,
  SessionStart,
  StreamRecord,
  Task,
  Token,
  Worker,
  WorkerGroup,
} from "@helmr/api";

type Api = typeof import("@helmr/api");
/** Names of the schemas an answer can be checked with. */
export type SchemaName = { [K in keyof Api]: Api[K] extends z.ZodType ? K : never }[keyof Api];
export type Shape<N extends SchemaName> = z.infer<Api[N]>;
export type Workspace = Shape<"workspace">;
export type WorkspaceExec = Shape<"exec">;
export type WorkspacePty = Shape<"pty">;
export type WorkspaceVersion = Shape<"workspaceVersion">;
export type WorkspaceEntry = Shape<"workspaceEntry">;
export type WorkspaceChange = Shape<"workspaceChange">;
export type AuditRecord = Shape<"auditRecord">;
export type OwnOrganization = Shape<"ownOrganization">;

/** `value` as it is, once the schema accepts it; fields that a newer server adds are no fault. */
export async function checked<N extends SchemaName>(
  name: N,
  value: unknown,
  what: string,
): Promise<Shape<N>> {
  const schema: z.ZodType = (await import("@helmr/api"))[name];
  const result = schema.safeParse(value);
  const [issue] = result.error?.issues.filter(({ code }) => code !== "unrecognized_keys") ?? [];
  if (issue === undefined) return value as Shape<N>;
  throw new CliError(`unexpected answer to ${what}: ${issue.path.map(String).join(".")}: ${issue.message}`, {
    exitCode: exitCodes.unavailable,
    hint: `helmr ${cliVersion} and the server may be of different versions: update the older one`,
  });
}
