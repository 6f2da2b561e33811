/**
 * Errors of the SDK. `name` is set on each, so that code that may see several copies of the SDK can compare names.
 */

export interface PayloadIssue {
  readonly message: string;
  /** Keys from the payload's root to the wrong value; empty for the payload itself. */
  readonly path: readonly (string | number)[];
}

/**
 * A payload does not fit its task's schema, or a record its stream's. `issues` holds every problem the schema found.
 */
export class PayloadSchemaValidationError extends Error {
  override readonly name = "PayloadSchemaValidationError";
  /** The task's or the stream's. */
  readonly taskId: string;
  readonly issues: readonly PayloadIssue[];

  constructor(taskId: string, issues: readonly PayloadIssue[], what: "task" | "stream" = "task") {
    super(
      `${what === "task" ? "payload" : "data"} of ${what} ${JSON.stringify(taskId)} is invalid: ${describe(issues)}`,
    );
    this.taskId = taskId;
    this.issues = issues;
  }
}

/** At most ten issues: a schema may find thousands in a large payload. */
function describe(issues: readonly PayloadIssue[]): string {
  const texts = issues
    .slice(0, 10)
    .map(({ message, path }) => (path.length === 0 ? message : `${path.join(".")}: ${message}`));
  if (issues.length > 10) texts.push(`and ${issues.length - 10} more`);
  return texts.length === 0 ? "the schema gave no reason" : texts.join("; ");
}

/** A second blocking wait was begun while one is pending: a run waits for one thing at a time. */
export class ConcurrentWaitError extends Error {
  override readonly name = "ConcurrentWaitError";
}

/** A wait's timeout (or the timeout of what it waits for) is over. */
export class WaitTimeoutError extends Error {
  override readonly name = "WaitTimeoutError";
}

/** What the run waited for was cancelled, or the run itself. */
export class WaitCancelledError extends Error {
  override readonly name = "WaitCancelledError";
}

/** The server refused the credential (401). */
export class AuthError extends Error {
  override readonly name = "AuthError";
}

/** Any other answer that is not the expected one. `body` is its raw text. */
export class HelmrApiError extends Error {
  override readonly name = "HelmrApiError";
  readonly status: number;
  readonly body: string;

  constructor(status: number, body: string, request: string) {
    super(`${request}: ${status} ${messageOf(body)}`);
    this.status = status;
    this.body = body;
  }
}

/** The server's `error` text, or the start of whatever it sent (a proxy's page, say). */
function messageOf(body: string): string {
  try {
    const parsed: unknown = JSON.parse(body);
    if (
      typeof parsed === "object" &&
      parsed !== null &&
      "error" in parsed &&
      typeof parsed.error === "string"
    ) {
      return parsed.error;
    }
  } catch {
    // Not JSON: shown as it is.
  }
  const text = body.trim();
  return text === "" ? "(empty body)" : text.length > 300 ? `${text.slice(0, 300)}…` : text;
}

/** No run of this id in the environment that the credential belongs to (404). */
export class RunNotFoundError extends HelmrApiError {
  readonly runId: string;

  constructor(runId: string, body: string, request: string) {
    super(404, body, request);
    Object.defineProperty(this, "name", { value: "RunNotFoundError" });
    this.runId = runId;
  }
}

/** `runs.wait` gave up after `timeoutMs`; the run goes on. */
export class TimeoutError extends Error {
  override readonly name = "TimeoutError";
}

/** The server could not be reached, did not answer in time, or cut the connection. `cause` has the platform's error. */
export class TransportError extends Error {
  override readonly name = "TransportError";
}

/** A base URL whose scheme or host the client refuses to send credentials to. */
export class UnsupportedTransportError extends Error {
  override readonly name = "UnsupportedTransportError";
}

/** The server's event stream broke its own format (contract 6.1, 6.2): not retried. */
export class SseProtocolError extends Error {
  override readonly name = "SseProtocolError";
}

/** A 2xx answer without the fields that the contract promises. */
export class InvalidResponseError extends Error {
  override readonly name = "InvalidResponseError";
}

/** A command or terminal was lost or failed before its stream was over. What had arrived was yielded. */
export class WorkspaceStreamTerminalError extends Error {
  override readonly name = "WorkspaceStreamTerminalError";
  readonly resourceKind: string;
  readonly resourceId: string;
  readonly stream: string;
  /** `lost` or `failed`. */
  readonly state: string;
  /** Bytes of the stream that there are. */
  readonly cursor: number | undefined;
  /** What the server says of it. */
  readonly error: unknown;

  constructor(
    end: Pick<
      WorkspaceStreamTerminalError,
      "resourceKind" | "resourceId" | "stream" | "state" | "cursor" | "error"
    >,
  ) {
    const what = end.resourceKind === "workspace_pty" ? "terminal" : "command";
    super(`the ${what} ${end.resourceId} is ${end.state}: ${reasonOfEnd(end.error, end.state)}`);
    this.resourceKind = end.resourceKind;
    this.resourceId = end.resourceId;
    this.stream = end.stream;
    this.state = end.state;
    this.cursor = end.cursor;
    this.error = end.error;
  }
}

function reasonOfEnd(error: unknown, state: string): string {
  if (typeof error === "object" && error !== null && "message" in error && typeof error.message === "string")
    return error.message;
  if (typeof error === "string" && error !== "") return error;
  return state === "lost" ? "its worker is gone" : "the server gave no reason";
}

/** The server cannot go on with a stream of a command or terminal: `workspace_stream_cursor_expired`, say. */
export class WorkspaceStreamError extends Error {
  override readonly name = "WorkspaceStreamError";
  readonly code: string;
  /** Where the stream could be read from. */
  readonly cursor: number | undefined;

  constructor(code: string, message: string | undefined, cursor: number | undefined) {
    super(message === undefined ? code : `${message} (${code})`);
    this.code = code;
    this.cursor = cursor;
  }
}
