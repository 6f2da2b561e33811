/** `@helmr/sdk`: author tasks, and talk to Helmr from applications. */
export { validateSecretName } from "./authoring/checks.ts";
export { defineConfig, type HelmrConfig, type HelmrConfigInput } from "./authoring/config.ts";
export { type Image, type ImageRunOptions, image } from "./authoring/image.ts";
export { type Queue, type QueueConfig, queue } from "./authoring/queue.ts";
export type { RetryBackoff, RetryPolicy } from "./authoring/retry.ts";
export { type Sandbox, type SandboxNetwork, type SandboxResources, sandbox } from "./authoring/sandbox.ts";
export type {
  ScheduledTaskConfig,
  ScheduledTaskPayload,
  ScheduledTaskPayloadInput,
} from "./authoring/scheduled-task.ts";
export type { TaskSecret } from "./authoring/secrets.ts";
export {
  type Cache,
  cache,
  type SourceDirectoryOptions,
  type SourceRef,
  source,
} from "./authoring/source.ts";
export { task } from "./authoring/task.ts";
export type {
  NoPayload,
  SessionStartPayload,
  Task,
  TaskConfig,
  TaskConfigWithPayload,
  TaskContext,
  TaskOutput,
  TaskPayload,
} from "./authoring/task-types.ts";
export type {
  AuthApi,
  CreatePublicTokenOptions,
  PublicToken,
  PublicTokenScope,
  PublicTokenScopeType,
} from "./client/auth.ts";
export { auth, HelmrClient, runs, sessions, workspaces } from "./client/client.ts";
export { type IdempotencyKey, type IdempotencyKeyOptions, idempotencyKeys } from "./client/idempotency.ts";
export type { RunEvent } from "./client/run-events.ts";
export type {
  RunCancelOptions,
  RunEventListOptions,
  RunEventSubscribeOptions,
  RunListOptions,
  RunLogs,
  RunReference,
  RunsApi,
  RunWaitOptions,
} from "./client/runs.ts";
export type {
  Schedule,
  ScheduleCallOptions,
  ScheduleCreateInput,
  ScheduleReference,
  ScheduleSessionOptions,
  SchedulesApi,
  ScheduleUpdateInput,
} from "./client/schedules.ts";
export type { SessionAddress } from "./client/session-address.ts";
export type { SessionInput, SessionInputSendOptions } from "./client/session-input.ts";
export type {
  SessionOutput,
  SessionOutputAppendOptions,
  SessionOutputPipeOptions,
  SessionOutputReadOptions,
  SessionOutputWriter,
} from "./client/session-output.ts";
export type {
  RecordAppendOptions,
  RecordListOptions,
  RecordReadOptions,
  SentRecord,
} from "./client/session-records.ts";
export type {
  SessionEndOptions,
  SessionHandle,
  SessionListOptions,
  SessionsApi,
} from "./client/sessions.ts";
export type {
  RunHandle,
  RunSnapshot,
  RunStatus,
  RunSummary,
  SessionActivity,
  SessionRun,
  SessionSnapshot,
  SessionStatus,
} from "./client/snapshots.ts";
export type {
  SessionStart,
  SessionStartAndWait,
  SessionStartAndWaitOptions,
  SessionStartOptions,
} from "./client/start-types.ts";
export type {
  TokenCompleteOptions,
  TokenCompletion,
  TokenCreateOptions,
  TokenListOptions,
  TokenPage,
  TokenReference,
  TokensApi,
  TokenTimeout,
} from "./client/tokens.ts";
export type { ClientOptions, ScopeOptions } from "./client/transport.ts";
export type {
  WorkspaceCreateOptions,
  WorkspaceForkOptions,
  WorkspaceHandle,
  WorkspaceListOptions,
  WorkspaceStopOptions,
  WorkspacesApi,
  WorkspaceUpdateOptions,
} from "./client/workspaces/api.ts";
export type {
  WorkspaceExecSnapshot,
  WorkspaceExecState,
  WorkspacePtySnapshot,
  WorkspacePtyState,
  WorkspaceStreamChunk,
  WorkspaceStreamName,
} from "./client/workspaces/command-objects.ts";
export type {
  WorkspaceExec,
  WorkspaceExecListOptions,
  WorkspaceExecOptions,
  WorkspaceExecs,
  WorkspaceExecWaitOptions,
  WorkspaceSignal,
  WorkspaceStdin,
  WorkspaceStdinPipeOptions,
} from "./client/workspaces/execs.ts";
export type {
  WorkspaceFileEntry,
  WorkspaceFileListOptions,
  WorkspaceFilePage,
  WorkspaceFileReadOptions,
  WorkspaceFileSource,
  WorkspaceFiles,
  WorkspaceFileWriteOptions,
} from "./client/workspaces/files.ts";
export type {
  Workspace,
  WorkspaceDesiredState,
  WorkspaceDirtyState,
  WorkspaceMaterialization,
  WorkspaceMaterializationState,
  WorkspaceState,
  WorkspaceStop,
} from "./client/workspaces/objects.ts";
export type {
  WorkspacePty,
  WorkspacePtyCreateOptions,
  WorkspacePtyListOptions,
  WorkspacePtys,
} from "./client/workspaces/ptys.ts";
export type {
  WorkspaceReadable,
  WorkspaceStreamFollowOptions,
  WorkspaceStreamListOptions,
  WorkspaceWriteOptions,
} from "./client/workspaces/streams.ts";
export type { WorkspaceReference } from "./client/workspaces/target.ts";
export type {
  WorkspaceChange,
  WorkspaceDiff,
  WorkspaceFileDiff,
  WorkspaceVersion,
} from "./client/workspaces/version-objects.ts";
export type {
  WorkspaceArchive,
  WorkspaceCaptureOptions,
  WorkspaceDiffOptions,
  WorkspaceRestoreOptions,
  WorkspaceUploadOptions,
  WorkspaceVersionListOptions,
  WorkspaceVersions,
} from "./client/workspaces/versions.ts";
export {
  AuthError,
  ConcurrentWaitError,
  HelmrApiError,
  InvalidResponseError,
  type PayloadIssue,
  PayloadSchemaValidationError,
  RunNotFoundError,
  SseProtocolError,
  TimeoutError,
  TransportError,
  UnsupportedTransportError,
  WaitCancelledError,
  WaitTimeoutError,
  WorkspaceStreamError,
  WorkspaceStreamTerminalError,
} from "./errors.ts";
export type { Duration, DurationObject } from "./runtime/duration.ts";
export type {
  InputReadOptions,
  InputStream,
  InputSubscription,
  InputWaitOptions,
} from "./runtime/input-stream.ts";
export { logger } from "./runtime/logger.ts";
export { metadata } from "./runtime/metadata.ts";
export type {
  OutputAppendOptions,
  OutputReadOptions,
  OutputStream,
  OutputWriter,
} from "./runtime/output-stream.ts";
export type { RunToken, RunTokenOptions, Token, TokenWaitOptions } from "./runtime/run-tokens.ts";
export type { StreamRecord } from "./runtime/stream-record.ts";
export { type StreamConfig, streams } from "./runtime/streams.ts";
export { timers } from "./runtime/timers.ts";
export type { WaitDelayHandle, WaitError, WaitHandle, WaitResult } from "./runtime/wait-handle.ts";
export type { WaitOptions } from "./runtime/wait-options.ts";
export { type SchedulesNamespace, schedules } from "./schedules.ts";
export type { PayloadSchema, PayloadSchemaIssue, PayloadSchemaResult } from "./schema.ts";
export { type TokensNamespace, tokens } from "./tokens.ts";
