/**
 * From what the SDK throws to what an operator can do about it. The message of a server and the SDK's error object are left
 * out: they may repeat headers and key ids.
 */
import { ArtifactStoreError } from "../errors.ts";

/** Where requests go, for messages. */
export interface S3Place {
  readonly bucket: string;
  /** Undefined: AWS itself. */
  readonly endpoint: string | undefined;
}

interface SdkError {
  readonly name: string;
  readonly code?: string;
  readonly $metadata?: { readonly httpStatusCode?: number; readonly requestId?: string };
}

/** No such object. (An answer to HEAD has no body, so that no more than its status is known.) */
export function isMissing(error: unknown): boolean {
  return ["NoSuchKey", "NotFound"].includes((error as SdkError).name);
}

const unreachable =
  /^(ECONNREFUSED|ECONNRESET|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_AGAIN|ECONNABORTED)$/;
const refused = [
  "AccessDenied",
  "Forbidden",
  "InvalidAccessKeyId",
  "SignatureDoesNotMatch",
  "ExpiredToken",
  // Of versitygw.
  "XAdminUserNotFound",
  "InvalidToken",
  "RequestTimeTooSkewed",
];
const elsewhere = [
  "PermanentRedirect",
  "AuthorizationHeaderMalformed",
  "MovedPermanently",
  "IllegalLocationConstraintException",
];

/** `doing`: "storing an artifact". */
export function asStoreError(error: unknown, doing: string, place: S3Place): Error {
  if (error instanceof ArtifactStoreError || !(error instanceof Error)) return error as Error;
  const { name, code, $metadata } = error as Error & SdkError;
  const status = $metadata?.httpStatusCode;
  const what = code ?? name;
  const [known, advice] = adviceFor(what, status, error.message, place);
  const request = $metadata?.requestId === undefined ? "" : `, request ${$metadata.requestId}`;
  return new ArtifactStoreError(known, `${doing} failed (${known}${request}): ${advice}`);
}

function adviceFor(
  what: string,
  status: number | undefined,
  message: string,
  place: S3Place,
): [string, string] {
  const { bucket, endpoint } = place;
  const at = endpoint ?? "AWS";
  if (what === "NoSuchBucket")
    return [
      what,
      `there is no bucket ${bucket} at ${at}: create it, or correct HELMR_CAS_URI or HELMR_S3_ENDPOINT`,
    ];
  if (what === "CredentialsProviderError")
    return [
      what,
      "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role",
    ];
  if (/region is missing/i.test(message)) return ["NoRegion", "set HELMR_S3_REGION or AWS_REGION"];
  if (refused.includes(what) || status === 403 || status === 401)
    return [
      what,
      `${at} does not let these credentials into bucket ${bucket}: look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or the machine's role), ` +
        "this machine's clock, and the policy, which needs s3:ListBucket, s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload",
    ];
  if (elsewhere.includes(what) || status === 301)
    return [what, `bucket ${bucket} is in another region: set HELMR_S3_REGION to its region`];
  if (what === "TimeoutError" || what === "AbortError" || what === "ETIMEDOUT")
    return [
      what,
      `${at} did not answer in time: look into the object store and the way to it (HELMR_S3_ENDPOINT)`,
    ];
  if (what === "PreconditionFailed" || status === 412)
    return [what, "the object was replaced while it was read: read it again"];
  if (unreachable.test(what))
    return [what, `${at} cannot be reached: look into the object store and HELMR_S3_ENDPOINT`];
  if (status !== undefined && status >= 500)
    return [what, `${at} answered ${status} each time: look into the object store's own log`];
  return [
    what,
    `${at} answered ${status ?? "something that is not S3"}: look into the object store's own log`,
  ];
}
