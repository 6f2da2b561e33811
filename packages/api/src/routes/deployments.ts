/** Deployments, and what the current one declares (contract 9). */
import * as wire from "../wire/index.ts";
import { anyWorkspacePermission, environment, get, post } from "./route.ts";

const readRuns = environment("runs.read");
const deploy = environment("tasks.deploy");
const readOrDeploy = environment("tasks.deploy", "runs.read");
const seeSandboxes = environment("runs.read", "tasks.deploy", ...anyWorkspacePermission);

export const deploymentRoutes = {
  createDeployment: {
    ...post,
    ...deploy,
    path: "/deployments",
    summary: "Upload a source and build it",
    multipart: true,
    body: wire.deploymentUploadMetadata,
    responses: { 201: wire.deployment },
    errors: [413],
  },
  listDeployments: {
    ...get,
    ...readOrDeploy,
    path: "/deployments",
    summary: "List deployments, newest first",
    query: wire.deploymentListQuery,
    responses: { 200: wire.deploymentList },
  },
  getCurrentDeployment: {
    ...get,
    ...readRuns,
    path: "/deployments/current",
    summary: "Read the current deployment",
    responses: { 200: wire.currentDeployment },
  },
  getDeployment: {
    ...get,
    ...readOrDeploy,
    path: "/deployments/:deploymentID",
    summary: "Read a deployment",
    params: wire.deploymentParams,
    responses: { 200: wire.deployment },
  },
  listDeploymentEvents: {
    ...get,
    ...readOrDeploy,
    path: "/deployments/:deploymentID/events",
    summary: "Page through or follow a build's progress",
    params: wire.deploymentParams,
    query: wire.eventQuery,
    stream: "deployment_event",
    responses: { 200: wire.eventPage },
  },
  promoteDeployment: {
    ...post,
    ...deploy,
    path: "/deployments/:deployment/promote",
    summary: "Make a deployment current",
    params: wire.promotionParams,
    body: wire.promotionRequest,
    bodyOptional: true,
    responses: { 200: wire.deployment },
  },

  listTasks: {
    ...get,
    ...readOrDeploy,
    path: "/tasks",
    summary: "List the current deployment's tasks",
    responses: { 200: wire.taskList },
  },
  getTask: {
    ...get,
    ...readOrDeploy,
    path: "/tasks/:taskID",
    summary: "Read a task of the current deployment",
    params: wire.taskParams,
    responses: { 200: wire.task },
  },
  listSandboxes: {
    ...get,
    ...seeSandboxes,
    path: "/sandboxes",
    summary: "List the current deployment's sandboxes",
    responses: { 200: wire.sandboxList },
  },
  getSandbox: {
    ...get,
    ...seeSandboxes,
    path: "/sandboxes/:sandboxID",
    summary: "Read a sandbox of the current deployment",
    params: wire.sandboxParams,
    responses: { 200: wire.sandbox },
  },
} as const;
