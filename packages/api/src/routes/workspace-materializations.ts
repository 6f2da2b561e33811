/** Live copies of workspaces (contract 7): brought up, stopped, saved while they live. */
import * as wire from "../wire/index.ts";
import { anyWorkspacePermission, environment, post } from "./route.ts";

const anyPermission = environment(...anyWorkspacePermission);
const stop = environment(
  "workspace.lifecycle.manage",
  "workspace.files.write",
  "workspace.versions.capture",
  "workspace.versions.restore",
  "workspace.exec.manage",
  "workspace.pty.manage",
  "workspace.ports.close",
);
const materialize = {
  ...post,
  ...anyPermission,
  params: wire.workspaceParams,
  /** 201: newly requested. */
  responses: { 200: wire.materialization, 201: wire.materialization },
  body: wire.emptyRequest,
  errors: [409],
} as const;

export const workspaceMaterializationRoutes = {
  materializeWorkspace: {
    ...materialize,
    path: "/workspaces/:workspaceID/materialize",
    summary: "Bring a workspace up on a worker",
  },
  connectWorkspace: {
    ...materialize,
    path: "/workspaces/:workspaceID/connect",
    summary: "The same as materialize",
  },
  stopWorkspace: {
    ...post,
    ...stop,
    path: "/workspaces/:workspaceID/stop",
    params: wire.workspaceParams,
    summary: "Save a workspace and stop its live copy",
    body: wire.workspaceStopRequest,
    bodyOptional: true,
    responses: { 200: wire.workspaceStop },
    errors: [409],
  },
  captureWorkspaceVersion: {
    ...post,
    ...environment("workspace.versions.capture"),
    path: "/workspaces/:workspaceID/versions",
    params: wire.workspaceParams,
    summary: "Save the workspace as it is now",
    body: wire.workspaceCaptureRequest,
    bodyOptional: true,
    responses: { 201: wire.workspaceVersionEnvelope, 200: wire.workspaceVersionEnvelope },
    errors: [409],
  },
} as const;
