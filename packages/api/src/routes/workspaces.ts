/** Workspaces (contract 7): their lifecycle and versions. */
import * as wire from "../wire/index.ts";
import { anyWorkspacePermission, environment, get, patch, post, remove } from "./route.ts";

const manage = environment("workspace.lifecycle.manage");
const anyPermission = environment(...anyWorkspacePermission);
const readVersions = environment("workspace.versions.read");

const one = { path: "/workspaces/:workspaceID", params: wire.workspaceParams } as const;
const ofVersion = { params: wire.workspaceVersionParams } as const;
export const workspaceRoutes = {
  createWorkspace: {
    ...post,
    ...manage,
    path: "/workspaces",
    summary: "Create a workspace from a deployed sandbox",
    body: wire.workspaceCreateRequest,
    /** 202: the same request is in flight. */
    responses: { 201: wire.createdWorkspace },
    errors: [409],
  },
  listWorkspaces: {
    ...get,
    ...anyPermission,
    path: "/workspaces",
    summary: "List workspaces, newest first",
    query: wire.workspaceListQuery,
    responses: { 200: wire.workspaceList },
  },
  getWorkspace: {
    ...get,
    ...anyPermission,
    ...one,
    summary: "Read a workspace",
    responses: { 200: wire.workspaceEnvelope },
  },
  updateWorkspace: {
    ...patch,
    ...manage,
    ...one,
    summary: "Replace a workspace's metadata or tags",
    body: wire.workspaceUpdateRequest,
    responses: { 200: wire.workspaceEnvelope },
    errors: [409],
  },
  deleteWorkspace: {
    ...remove,
    ...manage,
    ...one,
    summary: "Archive a workspace; its files are removed later",
    responses: { 200: wire.workspaceEnvelope },
    errors: [409],
  },
  forkWorkspace: {
    ...post,
    ...manage,
    path: "/workspaces/:workspaceID/fork",
    params: wire.workspaceParams,
    summary: "A new workspace with the files of a version",
    body: wire.workspaceForkRequest,
    bodyOptional: true,
    responses: { 201: wire.workspaceEnvelope },
    errors: [409],
  },
  listWorkspaceVersions: {
    ...get,
    ...readVersions,
    path: "/workspaces/:workspaceID/versions",
    params: wire.workspaceParams,
    summary: "List saved versions, newest first",
    query: wire.workspaceVersionsQuery,
    responses: { 200: wire.workspaceVersionList },
  },
  getWorkspaceVersion: {
    ...get,
    ...readVersions,
    ...ofVersion,
    path: "/workspaces/:workspaceID/versions/:versionID",
    summary: "Read a version",
    responses: { 200: wire.workspaceVersionEnvelope },
  },
  restoreWorkspaceVersion: {
    ...post,
    ...environment("workspace.versions.restore"),
    ...ofVersion,
    path: "/workspaces/:workspaceID/versions/:versionID/restore",
    summary: "Make an earlier version's files the current ones, as a new version",
    body: wire.workspaceRestoreRequest,
    bodyOptional: true,
    responses: { 201: wire.workspaceVersionEnvelope },
    errors: [409],
  },
} as const;
