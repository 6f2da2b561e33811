/** Projects and environments, by UUID (contract 11). */
import * as wire from "../wire/index.ts";
import { get, member, patch, post, remove } from "./route.ts";

const manageProjects = member("projects.manage");
const ofProject = { path: "/projects/:projectID", params: wire.projectParams } as const;
const ofEnvironment = {
  path: "/projects/:projectID/environments/:environmentID",
  params: wire.environmentParams,
} as const;

export const projectRoutes = {
  listProjects: {
    ...get,
    ...member(),
    path: "/projects",
    summary: "List projects with their environments",
    responses: { 200: wire.projectList },
  },
  createProject: {
    ...post,
    ...manageProjects,
    path: "/projects",
    summary: "Create a project with the environments production and staging",
    body: wire.projectCreateRequest,
    responses: { 201: wire.project },
  },
  getProject: {
    ...get,
    ...member(),
    ...ofProject,
    summary: "Read a project with its environments",
    responses: { 200: wire.project },
  },
  patchProject: {
    ...patch,
    ...manageProjects,
    ...ofProject,
    summary: "Change a project's slug and name",
    body: wire.projectPatchRequest,
    responses: { 200: wire.project },
  },
  deleteProject: {
    ...remove,
    ...manageProjects,
    ...ofProject,
    summary: "Delete a project and everything in its environments",
    query: wire.deletionQuery,
    responses: { 204: null },
    errors: [409],
  },
  previewProjectDeletion: {
    ...get,
    ...manageProjects,
    path: `${ofProject.path}/deletion`,
    params: ofProject.params,
    summary: "Count what deleting the project would delete",
    responses: { 200: wire.deletionPreview },
  },

  createEnvironment: {
    ...post,
    ...manageProjects,
    path: "/projects/:projectID/environments",
    params: wire.projectParams,
    summary: "Create an environment",
    body: wire.environmentCreateRequest,
    responses: { 201: wire.environment },
  },
  getEnvironment: {
    ...get,
    ...member(),
    ...ofEnvironment,
    summary: "Read an environment",
    responses: { 200: wire.environment },
  },
  patchEnvironment: {
    ...patch,
    ...manageProjects,
    ...ofEnvironment,
    summary: "Change an environment's slug, name and color",
    body: wire.environmentPatchRequest,
    responses: { 200: wire.environment },
  },
  deleteEnvironment: {
    ...remove,
    ...manageProjects,
    ...ofEnvironment,
    summary: "Delete an environment and everything in it",
    query: wire.deletionQuery,
    responses: { 204: null },
    errors: [409],
  },
  previewEnvironmentDeletion: {
    ...get,
    ...manageProjects,
    path: `${ofEnvironment.path}/deletion`,
    params: ofEnvironment.params,
    summary: "Count what deleting the environment would delete",
    responses: { 200: wire.deletionPreview },
  },
} as const;
