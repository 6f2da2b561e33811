/** What a signed-in user still has to do, one step after the other, as GET /api/me says. */
import { element, goTo, hide, onSubmit, post, requireMe, say, show, start } from "./page.js";

onSubmit("organization-form", async ({ name, slug, setup_token }) => {
  await post("/organizations", { name, slug, ...(setup_token !== "" && { setup_token }) });
  await next();
});

onSubmit("project-form", async ({ name, slug }) => {
  await post("/projects", { name, slug });
  await next();
});

async function next() {
  const me = await requireMe();
  hide("organization-form", "project-form");
  if (me.organization_required) {
    element("setup-token").hidden = !me.setup_token_required;
    element("setup-token").querySelector("input").required = me.setup_token_required;
    step("Create your organization", "organization-form", "organization-name");
  } else if (me.access_required) {
    element("title").textContent = "No access yet";
    say("You are signed in, but not a member here. Ask an owner or admin for an invitation.");
  } else if (me.project_required && me.permissions.includes("projects.manage")) {
    step("Create the first project", "project-form", "project-name");
  } else if (me.project_required) {
    say("There is no project yet. Ask an owner or admin to create one.");
    show("done");
  } else goTo("/");
}

function step(title, form, firstField) {
  element("title").textContent = title;
  show(form);
  element(firstField).focus();
}

start(next);
