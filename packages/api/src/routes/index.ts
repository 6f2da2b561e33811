/**
 * Every public route: method, path, who may call it, what it takes, what it answers. The control plane registers exactly
 * these; the checks of access, the OpenAPI document and the test of every route with every kind of actor come from them.
 *
 * Routes of an environment exist twice: `/api/...` for API keys and `/api/projects/{projectID}/environments/
 * {environmentID}/...` for user sessions (contract 1.4); `environmentRoutePrefix` is the one place that says so.
 */
import { apiKeyRoutes } from "./api-keys.ts";
import { deploymentRoutes } from "./deployments.ts";
import { deviceRoutes } from "./device.ts";
import { organizationRoutes } from "./organizations.ts";
import { projectRoutes } from "./projects.ts";
import { queueRoutes } from "./queues.ts";
import type { RouteDefinition } from "./route.ts";
import { runRoutes } from "./runs.ts";
import { scheduleRoutes } from "./schedules.ts";
import { secretRoutes } from "./secrets.ts";
import { sessionRoutes } from "./sessions.ts";
import { signInRoutes } from "./sign-in.ts";
import { streamRoutes } from "./streams.ts";
import { tokenRoutes } from "./tokens.ts";
import { workerGroupRoutes } from "./worker-groups.ts";
import { workspaceCommandRoutes } from "./workspace-commands.ts";
import { workspaceFileRoutes } from "./workspace-files.ts";
import { workspaceMaterializationRoutes } from "./workspace-materializations.ts";
import { workspaceRoutes } from "./workspaces.ts";

export {
  apiPrefix,
  environmentRoutePrefix,
  type RateLimitKind,
  type RouteAccess,
  type RouteDefinition,
} from "./route.ts";

export const routes = {
  ...sessionRoutes,
  ...streamRoutes,
  ...tokenRoutes,
  ...runRoutes,
  ...queueRoutes,
  ...scheduleRoutes,
  ...workspaceRoutes,
  ...workspaceFileRoutes,
  ...deploymentRoutes,
  ...secretRoutes,
  ...deviceRoutes,
  ...signInRoutes,
  ...projectRoutes,
  ...apiKeyRoutes,
  ...organizationRoutes,
  ...workspaceMaterializationRoutes,
  ...workspaceCommandRoutes,
  ...workerGroupRoutes,
} as const satisfies Readonly<Record<string, RouteDefinition>>;

export type Routes = typeof routes;
export type RouteName = keyof Routes;
