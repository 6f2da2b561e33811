/** Names in log lines: those of the database and the API, whatever the code calls the value that it logs. */
const names: Readonly<Record<string, string>> = {
  runId: "run_id",
  sessionId: "session_id",
  leaseId: "lease_id",
  environmentId: "environment_id",
  deploymentId: "deployment_id",
  workspaceId: "workspace_id",
  materializationId: "materialization_id",
  scheduleId: "schedule_id",
  waitId: "wait_id",
  workerInstanceId: "worker_instance_id",
  requestId: "request_id",
  traceId: "trace_id",
  artifactDigest: "artifact_digest",
};

/** For pino: of what is said in a line. What child loggers add is not formatted: it must have these names already. */
export const logFormatters = { log: logNames } as const;

function logNames(fields: Record<string, unknown>): Record<string, unknown> {
  const named: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields))
    named[Object.hasOwn(names, name) ? (names[name] ?? name) : name] = value;
  return named;
}
