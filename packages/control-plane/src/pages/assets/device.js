/** Lets a command line in, or not: the person compares the code and decides. */
import { element, get, hide, onClick, onSubmit, post, query, requireMe, say, show, start } from "./page.js";

const outcomes = {
  approved: "Approved. Go back to the command line; you can close this page.",
  consumed: "Approved, and the command line is signed in. You can close this page.",
  denied: "Denied. The command line was not signed in.",
  expired: "This code is too old. Start `helmr login` again.",
};

let userCode = "";

async function look(code) {
  const { status } = await get(`/auth/device/status?user_code=${encodeURIComponent(code)}`);
  if (status !== "pending") {
    say(outcomes[status], status === "expired" ? "bad" : "good");
    return;
  }
  userCode = code;
  element("shown-code").textContent = code;
  hide("code-form");
  show("decision");
  // Not on a button: nobody approves by a key press meant for something else.
  element("question").focus();
}

function decided({ status }) {
  hide("decision");
  say(outcomes[status]);
}

onSubmit("code-form", ({ code }) => look(code.toUpperCase()));
onClick("approve", async () => decided(await post("/auth/device/approve", { user_code: userCode })));
onClick("deny", async () => decided(await post("/auth/device/deny", { user_code: userCode })));

start(async () => {
  const me = await requireMe();
  element("name").textContent = me.display_name;
  element("organization").textContent = me.org_name ?? "no organization";
  if (me.org_id === undefined) {
    say(
      "You are in no organization yet, so a command line could do nothing. Create or join one first.",
      "bad",
    );
    return;
  }
  if (query("code") === "") show("code-form");
  else
    await look(query("code")).catch((error) => {
      show("code-form");
      throw error;
    });
});
