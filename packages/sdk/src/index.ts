/** `@helmr/sdk`: author tasks, and talk to Helmr from applications. */
export { validateSecretName } from "./authoring/checks.ts";
export { defineConfig, type HelmrConfig, type HelmrConfigInput } from "./authoring/config.ts";
export { type Image, type ImageRunOptions, image } from "./authoring/image.ts";
export { type Queue, type QueueConfig, queue } from "./authoring/queue.ts";
export type { RetryBackoff, RetryPolicy } from "./authoring/retry.ts";
export { type Sandbox, type SandboxNetwork, type SandboxResources, sandbox } from "./authoring/sandbox.ts";
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
export { HelmrClient, runs, sessions } from "./client/client.ts";
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
  SessionAddress,
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
export type { ClientOptions, ScopeOptions } from "./client/transport.ts";
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
export type { PayloadSchema, PayloadSchemaIssue, PayloadSchemaResult } from "./schema.ts";
export { tokens } from "./tokens.ts";
