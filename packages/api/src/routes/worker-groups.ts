/** Worker groups and workers. They are the installation's: see `operator` in route.ts. */
import * as wire from "../wire/index.ts";
import { get, operator, patch, post, remove } from "./route.ts";

const ofGroup = { path: "/worker-groups/:workerGroup", params: wire.workerGroupParams } as const;
const ofWorker = { path: "/workers/:workerID", params: wire.workerParams } as const;
const oneWorker = {
  ...operator,
  params: ofWorker.params,
  responses: { 200: wire.worker },
  bodyIgnored: true,
} as const;

export const workerGroupRoutes = {
  listWorkerGroups: {
    ...get,
    ...operator,
    path: "/worker-groups",
    summary: "List worker groups by name",
    responses: { 200: wire.workerGroupList },
  },
  createWorkerGroup: {
    ...post,
    ...operator,
    path: "/worker-groups",
    summary: "Create a worker group",
    body: wire.workerGroupCreateRequest,
    responses: { 201: wire.workerGroup },
    errors: [409],
  },
  getWorkerGroup: {
    ...get,
    ...operator,
    ...ofGroup,
    summary: "Read a worker group",
    responses: { 200: wire.workerGroup },
  },
  patchWorkerGroup: {
    ...patch,
    ...operator,
    ...ofGroup,
    summary: "Rename a worker group or replace its labels",
    body: wire.workerGroupPatchRequest,
    responses: { 200: wire.workerGroup },
    errors: [409],
  },
  deleteWorkerGroup: {
    ...remove,
    ...operator,
    ...ofGroup,
    summary: "Delete a worker group that nothing refers to",
    responses: { 204: null },
    errors: [409],
  },
  listRoutedEnvironments: {
    ...get,
    ...operator,
    path: `${ofGroup.path}/environments`,
    params: ofGroup.params,
    summary: "List the environments whose deployments go to the worker group",
    responses: { 200: wire.routedEnvironmentList },
  },
  routeEnvironment: {
    ...post,
    ...operator,
    path: `${ofGroup.path}/environments`,
    params: ofGroup.params,
    summary: "Let what is deployed next in an environment go to the worker group",
    body: wire.routeEnvironmentRequest,
    responses: { 200: wire.routedEnvironment },
  },
  listBootstrapTokens: {
    ...get,
    ...operator,
    path: `${ofGroup.path}/tokens`,
    params: ofGroup.params,
    summary: "List the tokens that workers of the group register with",
    responses: { 200: wire.bootstrapTokenList },
  },
  createBootstrapToken: {
    ...post,
    ...operator,
    path: `${ofGroup.path}/tokens`,
    params: ofGroup.params,
    summary: "Create a token that workers of the group register with",
    body: wire.bootstrapTokenCreateRequest,
    responses: { 201: wire.bootstrapTokenCreated },
  },
  revokeBootstrapToken: {
    ...remove,
    ...operator,
    path: `${ofGroup.path}/tokens/:bootstrapTokenID`,
    params: wire.bootstrapTokenParams,
    summary: "Revoke a token: no worker registers with it any more; those that did go on",
    responses: { 200: wire.bootstrapToken },
  },
  listWorkers: {
    ...get,
    ...operator,
    path: "/workers",
    summary: "List workers by their id",
    query: wire.workerListQuery,
    responses: { 200: wire.workerList },
  },
  getWorker: { ...get, ...operator, ...ofWorker, summary: "Read a worker", responses: { 200: wire.worker } },
  drainWorker: {
    ...post,
    ...oneWorker,
    path: `${ofWorker.path}/drain`,
    summary: "Give the worker nothing new until it is undrained",
  },
  undrainWorker: {
    ...post,
    ...oneWorker,
    path: `${ofWorker.path}/undrain`,
    summary: "Give the worker work again",
  },
  revokeWorkerCredential: {
    ...post,
    ...oneWorker,
    path: `${ofWorker.path}/revoke-credential`,
    summary: "Void the worker's credential: it must register anew",
  },
  removeWorker: {
    ...remove,
    ...operator,
    ...ofWorker,
    summary: "Forget a worker that is gone",
    responses: { 204: null },
    errors: [409],
  },
} as const;
