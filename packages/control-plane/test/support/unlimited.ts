/** For tests that send more requests than any limit allows; the limits have tests of their own. */
import type { RateLimits } from "../../src/limits/rate-limits.ts";

export const unlimited: RateLimits = {
  sign_in_start: [],
  sign_in_finish: [],
  device_start: [],
  device_poll: [],
  user_code: [],
  invitation_accept: [],
  public_stream: [],
  public_completion: [],
  failing_credential: [],
};
