/** What holds for every answer, whatever was asked (contract 1.2, 1.3, 14.12). */
import { expect } from "vitest";
import type {
  Answer,
  RequestOptions,
  TestServer,
} from "../../../packages/control-plane/test/support/server.ts";

/** Contract 1.3: the codes of sessions, streams and tokens; contract 7: those of workspaces. */
const codes = new Set([
  "task_archived",
  "task_not_deployed",
  "session_fingerprint_mismatch",
  "idempotency_fingerprint_mismatch",
  "idempotency_external_id_mismatch",
  "session_terminal",
  "session_expired",
  "session_has_no_current_run",
  "close_run_active",
  "session_expires_at_not_extendable",
  "idempotency_pending",
  "coordination_unavailable",
  "token_not_found",
  "token_expired",
  "token_cancelled",
  "token_scope_denied",
  "token_completion_conflict",
  "stream_not_found",
  "stream_direction_mismatch",
  "sandbox_not_deployed",
  "workspace_sandbox_incompatible",
  "workspace_resource_floor_unsatisfied",
  "workspace_not_active",
  // Beyond the contract.
  "workspace_in_use",
  "workspace_not_live",
  "workspace_writer_active",
  "workspace_exec_terminal",
  "workspace_exec_stdin_closed",
  "workspace_pty_terminal",
  "workspace_pty_not_open",
  "workspace_stream_offset_conflict",
  "workspace_stream_cursor_expired",
]);

/** Sends as the server's own client does, and holds each answer to what every answer must be. */
export async function strictRequest(
  server: TestServer,
  method: string,
  path: string,
  body?: unknown,
  options?: RequestOptions,
): Promise<Answer> {
  const answer = await server.request(method, path, body, options);
  const said = `${method} ${path} → ${answer.status} ${JSON.stringify(answer.body)}`;
  expect(answer.headers.get("helmr-api-version"), said).toBe("2026-06-06");
  expect(answer.headers.get("content-type"), said).toMatch(/^application\/json(;|$)/);
  expect(answer.body, said).toEqual(expect.any(Object));
  if (answer.status < 300) return answer;
  const { error, code, ...more } = answer.body as Record<string, unknown>;
  expect(more, said).toEqual({});
  expect(error, said).toMatch(/./);
  if (code !== undefined) expect(codes, said).toContain(code);
  return answer;
}

/** Status and code of a refusal; the code undefined where there is none. */
export function refusal({ status, body }: Answer): [number, string | undefined] {
  return [status, body.code];
}
