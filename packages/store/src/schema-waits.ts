/** The tables of migration 0003: streams, tokens, waits, checkpoints. */
import type { Generated } from "kysely";
import type {
  DefaultJsonb,
  DefaultTimestamp,
  Jsonb,
  Nullable,
  NullableTimestamp,
  Timestamp,
} from "./schema-columns.ts";

export type StreamDirection = "input" | "output";
export type WaitKind = "stream" | "token" | "timer";
export type WaitStatus = "pending" | "completed" | "timed_out" | "cancelled";
export type StoredTokenStatus = "pending" | "completed" | "cancelled";
export type PublicAccessScope = "session.input.send" | "session.output.read";

export interface WaitsSchema {
  deployment_streams: {
    deployment_id: string;
    name: string;
    direction: StreamDirection;
    schema_vendor: Nullable<string>;
  };
  session_streams: {
    id: string;
    environment_id: string;
    session_id: string;
    name: string;
    direction: StreamDirection;
    sequence: Generated<number>;
    created_at: DefaultTimestamp;
  };
  stream_records: {
    stream_id: string;
    sequence: number;
    id: string;
    data: string;
    correlation_id: Nullable<string>;
    content_type: string;
    idempotency_key: Nullable<string>;
    fingerprint: Nullable<Buffer>;
    created_at: DefaultTimestamp;
  };
  stream_cursors: {
    stream_id: string;
    correlation_id: string;
    committed_sequence: Generated<number>;
    taken_sequence: Generated<number>;
  };
  session_continuations: { session_id: string; environment_id: string; requested_at: DefaultTimestamp };
  tokens: {
    id: string;
    environment_id: string;
    status: StoredTokenStatus;
    timeout_at: Timestamp;
    data: Nullable<string>;
    tags: Generated<string[]>;
    metadata: DefaultJsonb<Record<string, unknown>>;
    idempotency_key: Nullable<string>;
    fingerprint: Nullable<Buffer>;
    run_id: Nullable<string>;
    created_at: DefaultTimestamp;
    completed_at: NullableTimestamp;
    cancelled_at: NullableTimestamp;
  };
  public_access_tokens: {
    id: string;
    environment_id: string;
    token_hash: Buffer;
    scope_type: PublicAccessScope;
    session_id: string;
    stream: string;
    correlation_id: Nullable<string>;
    max_uses: Nullable<number>;
    uses: Generated<number>;
    expires_at: Timestamp;
    revoked_at: NullableTimestamp;
    created_at: DefaultTimestamp;
  };
  run_waits: {
    id: string;
    environment_id: string;
    run_id: string;
    attempt_number: number;
    number: number;
    kind: WaitKind;
    status: WaitStatus;
    params: Jsonb<Record<string, unknown>>;
    metadata: DefaultJsonb<Record<string, unknown>>;
    tags: Generated<string[]>;
    stream_id: Nullable<string>;
    correlation_id: Nullable<string>;
    after_sequence: Nullable<number>;
    token_id: Nullable<string>;
    timeout_at: NullableTimestamp;
    result: Nullable<string>;
    created_at: DefaultTimestamp;
    resolved_at: NullableTimestamp;
  };
  run_checkpoints: {
    id: string;
    run_id: string;
    wait_id: string;
    manifest: Jsonb<Record<string, unknown>>;
    artifact_digest: string;
    size_bytes: number;
    failed_restores: Generated<number>;
    failed_on: Generated<string[]>;
    waiting_noted: Generated<boolean>;
    workspace_version_id: Nullable<string>;
    created_at: DefaultTimestamp;
  };
  discarded_artifacts: { digest: string; discarded_at: DefaultTimestamp };
}
