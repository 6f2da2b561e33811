/** Sign-in by e-mail: a link to whoever asks, and a session for whoever brings its token. */
import { ApiError } from "@helmr/api";
import { consumeMagicLink, createMagicLink, findOrCreateUserByEmail, magicLinkMinutes } from "@helmr/store";
import type { Context } from "../context.ts";
import { redirectAfter } from "./redirect-after.ts";
import { type SignInCall, signIn } from "./sign-in.ts";

/** Whether a link reaches anybody. */
export function offersMagicLinks({ mailer, config }: Context): boolean {
  return mailer.delivers || config.magicLinkDebugUrls === true;
}

/**
 * The answer is the same for every address: each gets a link, because a first sign-in makes the user. It does not wait
 * for the mail server, whose time would tell who has asked before.
 */
export async function startMagicLink(
  context: Context,
  { email, next }: { readonly email: string; readonly next?: string | undefined },
): Promise<{ readonly sent: true; readonly email: string; readonly debug_url?: string }> {
  const { config, db, mailer, outbox } = context;
  if (!offersMagicLinks(context)) {
    throw new ApiError(400, "sign-in by e-mail is not set up on this server; use another way to sign in");
  }
  outbox.requireRoom();
  const token = await createMagicLink(db, { email, redirectAfter: redirectAfter(next) });
  const url = `${config.publicUrl.replace(/\/+$/, "")}/auth/magic-link?token=${token}`;
  if (mailer.delivers) outbox.add({ to: email, subject: "Sign in to Helmr", text: messageText(url) });
  return { sent: true, email, ...(config.magicLinkDebugUrls === true && { debug_url: url }) };
}

function messageText(url: string): string {
  return `Open this link to sign in to Helmr:

${url}

It works once, within ${magicLinkMinutes} minutes. If you did not ask for it, do nothing: nobody is signed in without it.
`;
}

/** Throws ApiError 400 for a token that is unknown, used or expired. */
export async function finishMagicLink(
  context: Context,
  call: SignInCall,
  token: string,
): Promise<{ readonly redirect_after: string }> {
  return await signIn(context, call, async (tx) => {
    const link = await consumeMagicLink(tx, token);
    if (link === undefined) {
      throw new ApiError(
        400,
        `this link was used or is older than ${magicLinkMinutes} minutes; ask for a new one`,
      );
    }
    return {
      user: await findOrCreateUserByEmail(tx, call.actor, link.email),
      redirectAfter: link.redirectAfter,
    };
  });
}
