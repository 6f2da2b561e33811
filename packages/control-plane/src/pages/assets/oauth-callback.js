/** Where GitHub or the OpenID Connect provider sends the browser back to, with a code or with an error. */
import { goTo, post, query, sayError, show } from "./page.js";

const finish = {
  github: () => post("/auth/github/finish", { code: query("code"), state: query("state") }),
  oidc: () =>
    post("/auth/oidc/finish", {
      code: query("code"),
      state: query("state"),
      ...(query("iss") !== "" && { iss: query("iss") }),
    }),
};

/** `access_denied` is a person who said no. No free text: anybody can write an address that leads here. */
function refusal() {
  const code = query("error");
  if (code === "access_denied") return "You declined the sign-in. Nothing has changed.";
  const named = /^[a-z_]{1,60}$/.test(code) ? ` (${code})` : "";
  return `The provider did not let you sign in${named}. Try again, or tell who runs this server.`;
}

async function goOn() {
  if (query("error") !== "") throw new Error(refusal());
  if (query("code") === "")
    throw new Error("This address belongs to a sign-in. Start it from the sign-in page.");
  const provider = location.pathname.endsWith("/github/callback") ? "github" : "oidc";
  const sent = finish[provider]();
  // The code is of no use any more: it stays in no history.
  history.replaceState(null, "", location.pathname);
  goTo((await sent).redirect_after);
}

goOn().catch((error) => {
  sayError(error);
  show("again");
});
