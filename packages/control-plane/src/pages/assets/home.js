/** Who is signed in and where, until there is a console. */
import { element, get, goTo, onClick, post, requireMe, say, show, start } from "./page.js";

onClick("sign-out", async () => {
  await post("/auth/logout");
  goTo("/auth/sign-in");
});

onClick("sign-out-everywhere", async () => {
  await post("/auth/logout-everywhere");
  goTo("/auth/sign-in");
});

function listProjects(projects) {
  const items = projects.map(({ name, environments = [] }) => {
    const item = document.createElement("li");
    const slugs = environments.map(({ slug }) => slug);
    item.textContent = slugs.length === 0 ? name : `${name} (${slugs.join(", ")})`;
    return item;
  });
  element("projects").replaceChildren(...items);
  element("no-projects").hidden = items.length > 0;
}

start(async () => {
  const me = await requireMe();
  if (me.organization_required) {
    goTo("/auth/setup");
    return;
  }
  element("name").textContent = me.display_name;
  if (me.profile_image_url.startsWith("https:")) {
    element("picture").src = me.profile_image_url;
    show("picture");
  }
  show("account");
  if (me.access_required) {
    say("You are not a member of an organization here. Ask an owner or admin for an invitation.");
    return;
  }
  element("organization").textContent = me.org_name;
  element("role").textContent = me.role;
  show("membership");
  if (me.project_required && me.permissions.includes("projects.manage")) show("setup");
  listProjects((await get("/projects")).projects);
});
