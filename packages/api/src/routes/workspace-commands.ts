/** Commands (execs) and terminals (ptys) in workspaces (contract 7.3-7.6). */
import * as wire from "../wire/index.ts";
import { environment, get, post } from "./route.ts";

const readExec = environment("workspace.exec.read");
const manageExec = environment("workspace.exec.manage");
const readPty = environment("workspace.pty.read");
const managePty = environment("workspace.pty.manage");

const output = {
  ...get,
  query: wire.workspaceStreamQuery,
  responses: { 200: wire.workspaceChunkList },
  stream: "workspace_stream_chunk",
  errors: [410],
} as const;
const input = {
  ...post,
  body: wire.workspaceInputRequest,
  responses: { 200: wire.workspaceChunk },
  errors: [409, 413],
} as const;
const ofExec = { params: wire.execParams } as const;
const ofPty = { params: wire.ptyParams } as const;

export const workspaceCommandRoutes = {
  createExec: {
    ...post,
    ...environment("workspace.exec.create"),
    path: "/workspaces/:workspaceID/execs",
    params: wire.workspaceParams,
    summary: "Run a command in a workspace",
    body: wire.execCreateRequest,
    responses: { 201: wire.createdExec, 200: wire.createdExec },
    errors: [409],
  },
  listExecs: {
    ...get,
    ...readExec,
    path: "/workspaces/:workspaceID/execs",
    params: wire.workspaceParams,
    summary: "List commands, newest first",
    query: wire.execListQuery,
    responses: { 200: wire.execList },
  },
  getExec: {
    ...get,
    ...readExec,
    ...ofExec,
    path: "/workspaces/:workspaceID/execs/:execID",
    summary: "Read a command",
    responses: { 200: wire.execEnvelope },
  },
  writeExecStdin: {
    ...input,
    ...manageExec,
    ...ofExec,
    path: "/workspaces/:workspaceID/execs/:execID/stdin",
    summary: "Write to a command's stdin",
  },
  closeExecStdin: {
    ...post,
    ...manageExec,
    ...ofExec,
    path: "/workspaces/:workspaceID/execs/:execID/stdin/close",
    summary: "Close a command's stdin",
    bodyIgnored: true,
    responses: { 200: wire.execEnvelope },
    errors: [409],
  },
  killExec: {
    ...post,
    ...manageExec,
    ...ofExec,
    path: "/workspaces/:workspaceID/execs/:execID/kill",
    summary: "Signal a command",
    body: wire.execKillRequest,
    bodyOptional: true,
    responses: { 200: wire.execEnvelope },
    errors: [409],
  },
  readExecStdout: {
    ...output,
    ...readExec,
    ...ofExec,
    path: "/workspaces/:workspaceID/execs/:execID/stdout",
    summary: "Read or follow a command's stdout",
  },
  readExecStderr: {
    ...output,
    ...readExec,
    ...ofExec,
    path: "/workspaces/:workspaceID/execs/:execID/stderr",
    summary: "Read or follow a command's stderr",
  },
  createPty: {
    ...post,
    ...environment("workspace.pty.create"),
    path: "/workspaces/:workspaceID/pty",
    params: wire.workspaceParams,
    summary: "Open a terminal in a workspace",
    body: wire.ptyCreateRequest,
    bodyOptional: true,
    responses: { 201: wire.createdPty, 200: wire.createdPty },
    errors: [409],
  },
  listPtys: {
    ...get,
    ...readPty,
    path: "/workspaces/:workspaceID/pty",
    params: wire.workspaceParams,
    summary: "List terminals, newest first",
    query: wire.ptyListQuery,
    responses: { 200: wire.ptyList },
  },
  getPty: {
    ...get,
    ...readPty,
    ...ofPty,
    path: "/workspaces/:workspaceID/pty/:ptyID",
    summary: "Read a terminal",
    responses: { 200: wire.ptyEnvelope },
  },
  writePtyInput: {
    ...input,
    ...managePty,
    ...ofPty,
    path: "/workspaces/:workspaceID/pty/:ptyID/input",
    summary: "Type into a terminal",
  },
  readPtyOutput: {
    ...output,
    ...readPty,
    ...ofPty,
    path: "/workspaces/:workspaceID/pty/:ptyID/output",
    summary: "Read or follow a terminal's output",
  },
  resizePty: {
    ...post,
    ...managePty,
    ...ofPty,
    path: "/workspaces/:workspaceID/pty/:ptyID/resize",
    summary: "Change a terminal's size",
    body: wire.ptyResizeRequest,
    responses: { 200: wire.ptyEnvelope },
    errors: [409],
  },
  closePty: {
    ...post,
    ...managePty,
    ...ofPty,
    path: "/workspaces/:workspaceID/pty/:ptyID/close",
    summary: "Close a terminal",
    bodyIgnored: true,
    responses: { 200: wire.ptyEnvelope },
    errors: [409],
  },
} as const;
