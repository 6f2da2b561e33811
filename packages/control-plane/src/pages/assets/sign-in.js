/** Offers what the server has set up, and goes on to `next` afterwards. */
import {
  addressOf,
  element,
  findMe,
  get,
  goTo,
  onClick,
  onSubmit,
  post,
  query,
  say,
  show,
  start,
} from "./page.js";

const next = query("next") || "/";

onSubmit("email-form", async ({ email }) => {
  const answer = await post("/auth/magic-link/start", { email, next });
  say(`We sent a link to ${email}. It works once, within 15 minutes. You can close this page.`);
  if (answer.debug_url === undefined) return;
  element("debug-link").href = answer.debug_url;
  show("debug");
});

onClick("github", async () => {
  location.assign((await post("/auth/github/start", { next })).redirect_url);
});

onClick("oidc", async () => {
  location.assign((await post("/auth/oidc/start", { next })).redirect_url);
});

onClick("local", async () => {
  goTo((await post("/auth/local/sign-in", { next })).redirect_after);
});

start(async () => {
  const offered = await get("/auth/providers");
  if (offered.email) show("email-form");
  if (offered.github) show("github");
  if (offered.local_owner) show("local");
  if (offered.oidc !== undefined) {
    element("oidc-name").textContent = offered.oidc.display_name;
    show("oidc");
  }
  const isNothing = !offered.email && !offered.github && !offered.local_owner && offered.oidc === undefined;
  if (isNothing) say("This server has no way to sign in set up. Tell who runs it.", "bad");
  const me = await findMe();
  if (me === undefined) return;
  element("name").textContent = me.display_name;
  element("continue").href = addressOf(next.startsWith("/") ? next : "/");
  show("already");
});
