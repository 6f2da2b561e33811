/** Joins the organization of an invitation, as the user who is signed in. */
import { element, goTo, onClick, post, query, requireMe, show, start } from "./page.js";

onClick("accept", async () => {
  await post("/invitations/accept", { token: query("token") });
  goTo("/");
});

onClick("other", async () => {
  await post("/auth/logout");
  await requireMe();
});

start(async () => {
  element("name").textContent = (await requireMe()).display_name;
  show("decision");
});
