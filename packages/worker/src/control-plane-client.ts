/**
 * The worker's side of `/api/worker/v1`: one method per route, retried where repeating is safe.
 *
 *  I1  A 409 `lease_lost` is final: it is thrown as LeaseLostError and never retried.
 *  I2  Every answer is checked against its schema; a body is read only up to its limit by the platform's JSON parser.
 *  I3  Every request has a time limit, every retry a cap and jitter.
 */
import {
  type appendOutputRequest,
  appendOutputResponse,
  type appendRequest,
  appendResponse,
  type buildEventsRequest,
  buildSecretsRequest,
  buildSecretsResponse,
  type createRunTokenRequest,
  type createWaitRequest,
  finishBuildRequest,
  finishMaterializationRequest,
  finishRunRequest,
  finishRunResponse,
  type handBackRequest,
  type heartbeatRequest,
  heartbeatResponse,
  knownFields,
  knownFieldsHeader,
  leaseRequest,
  leaseResponse,
  type materializationStartedRequest,
  type parkRequest,
  parkResponse,
  pollWaitsResponse,
  pollWorkspacesRequest,
  pollWorkspacesResponse,
  type readStreamRequest,
  readStreamResponse,
  recordVersionRequest,
  recordVersionResponse,
  registerWorkerRequest,
  registerWorkerResponse,
  type reserveArtifactsRequest,
  type restoreFailedRequest,
  rotateCredentialResponse,
  type settleUploadsRequest,
  settleUploadsResponse,
  startLeaseRequest,
  type VersionRef,
  type WaitState,
  type WorkspacePoll,
  waitState,
  type workspaceAppendRequest,
  workspaceAppendResponse,
  type workspaceRequestResult,
} from "@helmr/api";
import pRetry, { AbortError } from "p-retry";
import { z } from "zod";

/** The lease has another holder, expired or was ended: drop the work and report nothing more. */
export class LeaseLostError extends Error {
  override readonly name = "LeaseLostError";
}
/** The credential is not (or no longer) known: register again. */
export class UnauthorizedError extends Error {
  override readonly name = "UnauthorizedError";
}
/** The control plane refused the request itself; repeating it cannot help. */
export class RequestRefusedError extends Error {
  override readonly name = "RequestRefusedError";
  /** What the control plane said, and its code. */
  readonly text: string;
  readonly code: string | undefined;
  constructor(message: string, text: string, code: string | undefined) {
    super(message);
    this.text = text;
    this.code = code;
  }
}

/** Whether asking again cannot help; else the control plane is away, or busy. */
export function isFinal(error: unknown): boolean {
  return (
    error instanceof LeaseLostError ||
    error instanceof UnauthorizedError ||
    error instanceof RequestRefusedError
  );
}

export type RegisterRequest = z.input<typeof registerWorkerRequest>;
export type Registration = z.infer<typeof registerWorkerResponse>;
export type HeartbeatReport = Omit<z.input<typeof heartbeatRequest>, "leases">;
export type HeartbeatAnswer = z.infer<typeof heartbeatResponse>;
export type LeasedWork = z.infer<typeof leaseResponse>;
export type AppendItem = z.input<typeof appendRequest>["items"][number];
export type RunReport = z.input<typeof finishRunRequest>["outcome"];
export type BuildReport = z.input<typeof finishBuildRequest>["outcome"];
export type BuildEvent = z.input<typeof buildEventsRequest>["items"][number];

const errorBody = z.object({ error: z.string().optional(), code: z.string().optional() });
const anything = z.unknown();
/** Handed on to the task as it is. */
const tokenAnswer = z.looseObject({ token: z.looseObject({ id: z.string() }) });
const requestTimeoutMs = 20_000;

interface Call<Schema extends z.ZodType> {
  readonly path: string;
  readonly body: unknown;
  readonly answer: Schema;
  readonly bearer: string;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal | undefined;
}

/** `retries` of 8 with 100 ms doubling to 5 s and jitter spans about 20 s, less than a lease. */
const retryPolicy = { retries: 8, minTimeout: 100, maxTimeout: 5_000, factor: 2, randomize: true } as const;

type OnAnswered = (kind: string, result: "ok" | "refused" | "failed") => void;

export class ControlPlaneClient {
  readonly #base: string;
  #credential = "";
  #lastContactAt: Date | undefined;

  readonly #onAnswered: OnAnswered;

  /** `onAnswered` is told of every request: its path without ids, and what came of it. */
  constructor(controlPlaneUrl: string, onAnswered: OnAnswered = () => undefined) {
    this.#onAnswered = onAnswered;
    this.#base = `${controlPlaneUrl.replace(/\/+$/, "")}/api/worker/v1`;
  }

  /** When the control plane last answered with what was asked for. */
  get lastContactAt(): Date | undefined {
    return this.#lastContactAt;
  }

  /** Exchange the bootstrap token for a credential, which every later call carries. */
  async register(
    bootstrapToken: string,
    request: RegisterRequest,
    signal?: AbortSignal,
  ): Promise<Registration> {
    const answer = await this.#retried({
      path: "register",
      body: registerWorkerRequest.parse(request),
      answer: registerWorkerResponse,
      bearer: bootstrapToken,
      signal,
    });
    this.#credential = answer.credential;
    return answer;
  }

  /**
   * A new credential in place of this one, which every later call carries. The old one is kept until the answer is here: while
   * it is good, which the control plane sees to for a while after a rotation, asking again after a lost answer does no harm.
   */
  async rotateCredential(signal?: AbortSignal): Promise<void> {
    const call = this.#own("rotate-credential", {}, rotateCredentialResponse, signal);
    this.#credential = (await this.#retried(call)).credential;
  }

  /** Not retried: the next beat follows soon and carries the same facts. */
  heartbeat(
    leases: z.input<typeof heartbeatRequest>["leases"],
    signal?: AbortSignal,
    report: HeartbeatReport = {},
  ): Promise<HeartbeatAnswer> {
    const body = { leases, ...report };
    return this.#once({ ...this.#own("heartbeat", body, heartbeatResponse, signal), timeoutMs: 10_000 });
  }

  /** Long poll; not retried here: the loop that calls it waits and calls again. */
  lease(request: z.infer<typeof leaseRequest>, signal?: AbortSignal): Promise<LeasedWork> {
    const timeoutMs = request.wait_ms + 15_000;
    return this.#once({
      ...this.#own("lease", leaseRequest.parse(request), leaseResponse, signal),
      timeoutMs,
    });
  }

  async startLease(
    leaseId: string,
    request: z.input<typeof startLeaseRequest>,
    signal?: AbortSignal,
  ): Promise<void> {
    await this.#retried(
      this.#own(`leases/${leaseId}/start`, startLeaseRequest.parse(request), anything, signal),
    );
  }

  /** Idempotent by the items' numbers. */
  async append(
    leaseId: string,
    fencing: number,
    items: readonly AppendItem[],
    signal?: AbortSignal,
  ): Promise<void> {
    await this.#retried(this.#own(`leases/${leaseId}/append`, { fencing, items }, appendResponse, signal));
  }

  async finishRun(
    leaseId: string,
    request: z.input<typeof finishRunRequest>,
    signal?: AbortSignal,
  ): Promise<void> {
    const body = finishRunRequest.parse(request);
    await this.#retried(this.#own(`leases/${leaseId}/finish`, body, finishRunResponse, signal));
  }

  /** The lease ends unused, or its work goes on elsewhere. A repeated request finds it gone, which `lease_lost` says. */
  async handBack(
    leaseId: string,
    request: z.input<typeof handBackRequest>,
    signal?: AbortSignal,
  ): Promise<void> {
    await this.#retried(this.#own(`leases/${leaseId}/hand-back`, request, anything, signal));
  }

  /** Idempotent by the number. */
  createWait(
    leaseId: string,
    request: z.input<typeof createWaitRequest>,
    signal?: AbortSignal,
  ): Promise<WaitState> {
    return this.#retried(this.#own(`leases/${leaseId}/waits`, request, waitState, signal));
  }

  /** Long poll; not retried here: whoever asks goes on asking. */
  pollWaits(
    waitIds: readonly string[],
    waitMs: number,
    signal?: AbortSignal,
  ): Promise<z.infer<typeof pollWaitsResponse>> {
    const body = { wait_ids: waitIds, wait_ms: waitMs };
    return this.#once({
      ...this.#own("waits/poll", body, pollWaitsResponse, signal),
      timeoutMs: waitMs + 15_000,
    });
  }

  /** Idempotent by the number. */
  createToken(
    leaseId: string,
    request: z.input<typeof createRunTokenRequest>,
    signal?: AbortSignal,
  ): Promise<z.infer<typeof tokenAnswer>> {
    return this.#retried(this.#own(`leases/${leaseId}/tokens`, request, tokenAnswer, signal));
  }

  /** Idempotent by the number. */
  appendOutput(
    leaseId: string,
    request: z.input<typeof appendOutputRequest>,
    signal?: AbortSignal,
  ): Promise<z.infer<typeof appendOutputResponse>> {
    return this.#retried(
      this.#own(`leases/${leaseId}/streams/append`, request, appendOutputResponse, signal),
    );
  }

  /** A repeated read that takes gives the next record after the same sequence: the same one. */
  readStream(
    leaseId: string,
    request: z.input<typeof readStreamRequest>,
    signal?: AbortSignal,
  ): Promise<z.infer<typeof readStreamResponse>> {
    return this.#retried({
      ...this.#own(`leases/${leaseId}/streams/read`, request, readStreamResponse, signal),
      timeoutMs: request.wait_ms + requestTimeoutMs,
    });
  }

  /** Idempotent: the same checkpoint recorded again finds the lease gone, which `lease_lost` says. */
  park(
    leaseId: string,
    request: z.input<typeof parkRequest>,
    signal?: AbortSignal,
  ): Promise<z.infer<typeof parkResponse>> {
    return this.#retried(this.#own(`leases/${leaseId}/park`, request, parkResponse, signal));
  }

  /** Which of these checkpoints are settled: referred to, or taken over for removal. */
  settleUploads(
    uploads: z.input<typeof settleUploadsRequest>["uploads"],
    signal?: AbortSignal,
  ): Promise<z.infer<typeof settleUploadsResponse>> {
    return this.#retried(this.#own("uploads/settle", { uploads }, settleUploadsResponse, signal));
  }

  async restoreFailed(
    leaseId: string,
    request: z.input<typeof restoreFailedRequest>,
    signal?: AbortSignal,
  ): Promise<void> {
    await this.#retried(this.#own(`leases/${leaseId}/restore-failed`, request, anything, signal));
  }

  /** Idempotent: artifacts that are about to be stored or referred to, kept while the lease lives. */
  async reserveArtifacts(
    request: z.input<typeof reserveArtifactsRequest>,
    signal?: AbortSignal,
  ): Promise<void> {
    await this.#retried(this.#own("uploads/reserve", request, anything, signal));
  }

  /** A repeated version has the content of the current one, which is answered then. */
  async recordVersion(
    leaseId: string,
    request: z.input<typeof recordVersionRequest>,
    signal?: AbortSignal,
  ): Promise<VersionRef> {
    const body = recordVersionRequest.parse(request);
    const answer = await this.#retried(
      this.#own(`leases/${leaseId}/versions`, body, recordVersionResponse, signal),
    );
    return answer.version;
  }

  /** Long poll; not retried here: whoever asks goes on asking. */
  pollWorkspaces(
    request: z.input<typeof pollWorkspacesRequest>,
    signal?: AbortSignal,
  ): Promise<WorkspacePoll> {
    const body = pollWorkspacesRequest.parse(request);
    return this.#once({
      ...this.#own("workspaces/poll", body, pollWorkspacesResponse, signal),
      timeoutMs: request.wait_ms + 15_000,
    });
  }

  async materializationStarted(
    materializationId: string,
    request: z.input<typeof materializationStartedRequest>,
    signal?: AbortSignal,
  ): Promise<void> {
    await this.#retried(
      this.#own(`materializations/${materializationId}/started`, request, anything, signal),
    );
  }

  /** Idempotent by the items' numbers. */
  workspaceAppend(
    materializationId: string,
    request: z.input<typeof workspaceAppendRequest>,
    signal?: AbortSignal,
  ): Promise<z.infer<typeof workspaceAppendResponse>> {
    return this.#retried(
      this.#own(`materializations/${materializationId}/append`, request, workspaceAppendResponse, signal),
    );
  }

  /** A repeated answer changes nothing. */
  async workspaceAnswer(
    materializationId: string,
    requestId: string,
    request: z.input<typeof workspaceRequestResult>,
    signal?: AbortSignal,
  ): Promise<void> {
    const path = `materializations/${materializationId}/requests/${requestId}`;
    await this.#retried(this.#own(path, request, anything, signal));
  }

  async finishMaterialization(
    materializationId: string,
    request: z.input<typeof finishMaterializationRequest>,
    signal?: AbortSignal,
  ): Promise<void> {
    const body = finishMaterializationRequest.parse(request);
    await this.#retried(this.#own(`materializations/${materializationId}/finish`, body, anything, signal));
  }

  async buildEvents(
    leaseId: string,
    fencing: number,
    items: readonly BuildEvent[],
    signal?: AbortSignal,
  ): Promise<void> {
    await this.#retried(this.#own(`builds/${leaseId}/events`, { fencing, items }, anything, signal));
  }

  buildSecrets(
    leaseId: string,
    fencing: number,
    names: readonly string[],
    signal?: AbortSignal,
  ): Promise<z.infer<typeof buildSecretsResponse>> {
    const body = buildSecretsRequest.parse({ fencing, names: [...names] });
    return this.#retried(this.#own(`builds/${leaseId}/secrets`, body, buildSecretsResponse, signal));
  }

  async finishBuild(
    leaseId: string,
    fencing: number,
    outcome: BuildReport,
    signal?: AbortSignal,
  ): Promise<void> {
    const body = finishBuildRequest.parse({ fencing, outcome });
    await this.#retried(this.#own(`builds/${leaseId}/finish`, body, anything, signal));
  }

  #own<Schema extends z.ZodType>(
    path: string,
    body: unknown,
    answer: Schema,
    signal?: AbortSignal,
  ): Call<Schema> {
    return { path, body, answer, bearer: this.#credential, signal };
  }

  #retried<Schema extends z.ZodType>(call: Call<Schema>): Promise<z.infer<Schema>> {
    const attempt = async () => {
      try {
        return await this.#once(call);
      } catch (error) {
        throw isFinal(error) ? new AbortError(error as Error) : error;
      }
    };
    return pRetry(attempt, call.signal === undefined ? retryPolicy : { ...retryPolicy, signal: call.signal });
  }

  async #once<Schema extends z.ZodType>(call: Call<Schema>): Promise<z.infer<Schema>> {
    try {
      const answer = await this.#ask(call);
      this.#onAnswered(kindOf(call.path), "ok");
      return answer;
    } catch (error) {
      // Given up by whoever asked: neither the control plane's fault nor its answer.
      if (call.signal?.aborted !== true)
        this.#onAnswered(kindOf(call.path), isFinal(error) ? "refused" : "failed");
      throw error;
    }
  }

  async #ask<Schema extends z.ZodType>(call: Call<Schema>): Promise<z.infer<Schema>> {
    const limit = AbortSignal.timeout(call.timeoutMs ?? requestTimeoutMs);
    const response = await fetch(`${this.#base}/${call.path}`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        authorization: `Bearer ${call.bearer}`,
        [knownFieldsHeader]: knownFields,
      },
      body: JSON.stringify(call.body),
      signal: call.signal === undefined ? limit : AbortSignal.any([limit, call.signal]),
    });
    if (response.ok) {
      const answer = call.answer.parse(await bodyOf(response));
      this.#lastContactAt = new Date();
      return answer;
    }
    throw await refusal(call.path, response);
  }
}

const ids = /\/[0-9a-f]{8}-[0-9a-f-]{27}(?=\/|$)/g;

/** `leases/append` of `leases/<id>/append`. */
function kindOf(path: string): string {
  return path.replace(ids, "");
}

async function bodyOf(response: Response): Promise<unknown> {
  const text = await response.text();
  return text === "" ? {} : JSON.parse(text);
}

async function refusal(path: string, response: Response): Promise<Error> {
  const text = await response.text();
  let parsed: z.infer<typeof errorBody> = {};
  try {
    parsed = errorBody.parse(JSON.parse(text));
  } catch {
    parsed = { error: text.slice(0, 500) };
  }
  const message = `control plane answered ${response.status} to ${path}: ${parsed.error ?? "no message"}`;
  if (response.status === 409 && parsed.code === "lease_lost") return new LeaseLostError(message);
  if (response.status === 401 || response.status === 403) return new UnauthorizedError(message);
  const repeatable = response.status >= 500 || response.status === 408 || response.status === 429;
  return repeatable
    ? new Error(message)
    : new RequestRefusedError(message, parsed.error ?? "refused", parsed.code);
}
