/** Sign-in of people (contract 11.1): e-mail links, GitHub, OpenID Connect, the local owner of `helmr dev`. */
import { z } from "zod";

/** RFC 5321: the longest address that mail can be sent to. */
const maxEmailLength = 254;

/** As addresses are stored: trimmed, in lower case. */
export const emailAddress = z
  .string()
  .trim()
  .toLowerCase()
  .max(maxEmailLength, `must be at most ${maxEmailLength} characters`)
  .pipe(z.email("must be an e-mail address like ada@example.com"));

/**
 * Where to go afterwards: a path of this server. Anything else counts as `/`, because it comes out of links that others
 * may have written.
 */
const next = z.string().max(2048, "must be at most 2048 characters");

const opaque = (what: string) =>
  z.string().regex(/^[A-Za-z0-9_-]{43}$/, { error: `is not ${what} of this server: start again` });

export const magicLinkStartRequest = z.strictObject({ email: emailAddress, next: next.optional() });
export const magicLinkStart = z.strictObject({
  sent: z.literal(true),
  email: z.string().optional(),
  debug_url: z.string().optional(),
});
export const magicLinkFinishRequest = z.strictObject({ token: opaque("a sign-in link") });
export const signInFinish = z.strictObject({ redirect_after: z.string() });

export const oauthStartRequest = z.strictObject({ next: next.optional() });
export const oauthStart = z.strictObject({ redirect_url: z.string() });

/** Codes are the provider's: any text, bounded. */
const code = z.string().min(1, "must not be empty").max(4096, "must be at most 4096 characters");

export const githubFinishRequest = z.strictObject({ code, state: opaque("a sign-in") });
/** `iss` as the provider added it to the callback (RFC 9207). */
export const oidcFinishRequest = z.strictObject({
  code,
  state: opaque("a sign-in"),
  iss: z.string().max(2048, "must be at most 2048 characters").optional(),
});

/** What the sign-in page may offer. */
export const authProviders = z.strictObject({
  email: z.boolean(),
  github: z.boolean(),
  oidc: z.strictObject({ display_name: z.string() }).optional(),
  local_owner: z.boolean(),
});
