/** The link is used up by a click, not by being opened: mail scanners open links, too. */
import { goTo, hide, onClick, post, query, show } from "./page.js";

onClick("finish", async () => {
  try {
    goTo((await post("/auth/magic-link/finish", { token: query("token") })).redirect_after);
  } catch (error) {
    if (error.status === 400) {
      hide("ask", "finish");
      show("again");
    }
    throw error;
  }
});
