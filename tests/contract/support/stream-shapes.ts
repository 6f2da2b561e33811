/** The objects of contract 2.3, 2.4, 3.3, 4 and 5, as shapes.ts has the others. */
import {
  anything,
  type Fields,
  filled,
  filledList,
  id,
  int,
  listOf,
  object,
  oneOf,
  orNull,
  shaped,
  timestamp,
} from "./checks.ts";

/** Contract 2.3 */
export const record: Fields = {
  id,
  stream_id: id,
  sequence: (value) => int(value) && Number(value) >= 1,
  data: anything,
  "correlation_id?": filled,
  content_type: filled,
  created_at: timestamp,
};
export const recordRead: Fields = { record: orNull(shaped(record)) };

/** Contract 3.3 */
export const stream: Fields = {
  id,
  session_id: id,
  name: filled,
  direction: oneOf("input", "output"),
  sequence: (value) => int(value) && Number(value) >= 0,
  "metadata?": object,
  created_at: timestamp,
};

/** Contract 4.1: output has no continuation. */
export const outputAppend: Fields = {
  record: shaped(record),
  idempotency_status: oneOf("created", "duplicate"),
};
export const inputAppend: Fields = {
  ...outputAppend,
  "continuation_status?": oneOf("accepted_run_pending", "created", "duplicate"),
};

/** Contract 2.4, as everything but create answers: without the two secrets. */
export const token: Fields = {
  id,
  "status?": oneOf("pending", "completed", "expired", "cancelled"),
  timeout_at: orNull(timestamp),
  "data?": anything,
  "tags?": listOf(filled),
  "metadata?": object,
};
export const createdToken: Fields = {
  ...token,
  callback_url: (value) =>
    typeof value === "string" &&
    /\/api\/v1\/tokens\/[0-9a-f-]{36}\/callback\/hlmr_callback_[A-Za-z0-9_-]{43}$/.test(value),
  public_access_token: (value) =>
    typeof value === "string" && /^hlmr_public_access_[A-Za-z0-9_-]{43}$/.test(value),
};
/** Contract 5 */
export const tokenCompletion: Fields = {
  status: oneOf("completed", "already_completed"),
  token: shaped(token),
};

/** Contract 5.2, 14.16: the session is always named by its id. */
export const publicAccessToken: Fields = {
  id,
  public_access_token: (value) => typeof value === "string" && /^hlmr_pat_[A-Za-z0-9_-]{43}$/.test(value),
  scope: shaped({
    type: oneOf("session.input.send", "session.output.read"),
    session: shaped({ type: oneOf("id"), id }),
    stream: filled,
    "correlation_id?": filled,
  }),
  expires_at: timestamp,
  "max_uses?": (value) => int(value) && Number(value) > 0,
  created_at: timestamp,
};

/** Contract 2.2 */
export const pendingWait: Fields = {
  id,
  kind: filled,
  created_at: timestamp,
  "timeout_at?": timestamp,
  params: object,
  "metadata?": object,
  "tags?": filledList(filled),
};

export { expectList, expectShape } from "./checks.ts";
