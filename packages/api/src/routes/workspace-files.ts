/** Files of workspaces and their versions (contract 7.7): read, compared, downloaded, uploaded. */
import * as wire from "../wire/index.ts";
import { environment, get, post, put } from "./route.ts";

const readFiles = environment("workspace.files.read");
const writeFiles = environment("workspace.files.write");
const compare = environment("workspace.versions.diff");

const ofVersion = { params: wire.workspaceVersionParams } as const;
export const workspaceFileRoutes = {
  listWorkspaceFiles: {
    ...get,
    ...readFiles,
    path: "/workspaces/:workspaceID/files",
    params: wire.workspaceParams,
    summary: "List a folder of a version, or of the live copy",
    query: wire.workspaceFilesQuery,
    responses: { 200: wire.workspaceEntryList },
    errors: [409],
  },
  getWorkspaceFile: {
    ...get,
    ...readFiles,
    path: "/workspaces/:workspaceID/files/content",
    params: wire.workspaceParams,
    summary: "Read a file's bytes; takes Range",
    query: wire.workspaceFileQuery,
    bytes: "application/octet-stream",
    responses: { 200: null, 206: null, 304: null },
    errors: [409, 416],
  },
  putWorkspaceFile: {
    ...put,
    ...writeFiles,
    path: "/workspaces/:workspaceID/files/content",
    params: wire.workspaceParams,
    summary: "Write a file: a new version with it becomes the current one",
    query: wire.workspaceFileWriteQuery,
    upload: true,
    responses: { 201: wire.workspaceVersionEnvelope },
    errors: [409, 413],
  },
  statWorkspaceFile: {
    ...get,
    ...readFiles,
    path: "/workspaces/:workspaceID/files/stat",
    params: wire.workspaceParams,
    summary: "What a path is",
    query: wire.workspaceFileQuery,
    responses: { 200: wire.workspaceEntryEnvelope },
    errors: [409],
  },
  importWorkspaceVersion: {
    ...post,
    ...writeFiles,
    path: "/workspaces/:workspaceID/versions/import",
    params: wire.workspaceParams,
    summary: "Upload a tar (plain, gzip or zstd) as a new version",
    query: wire.workspaceImportQuery,
    upload: true,
    responses: { 201: wire.workspaceVersionEnvelope },
    errors: [409, 413],
  },
  diffWorkspaceVersion: {
    ...get,
    ...compare,
    ...ofVersion,
    path: "/workspaces/:workspaceID/versions/:versionID/diff",
    summary: "What differs from another version: paths and kinds of change",
    query: wire.workspaceDiffQuery,
    responses: { 200: wire.workspaceDiff },
    errors: [409],
  },
  diffWorkspaceFile: {
    ...get,
    ...compare,
    ...ofVersion,
    path: "/workspaces/:workspaceID/versions/:versionID/diff/content",
    summary: "A text file's changes as a unified diff",
    query: wire.workspaceFileDiffQuery,
    responses: { 200: wire.workspaceFileDiff },
    errors: [409],
  },
  downloadWorkspaceVersion: {
    ...get,
    ...readFiles,
    ...ofVersion,
    path: "/workspaces/:workspaceID/versions/:versionID/archive",
    summary: "A version as a zstd-compressed tar",
    bytes: "application/zstd",
    responses: { 200: null },
    errors: [409],
  },
} as const;
