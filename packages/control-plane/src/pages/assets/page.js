/** What the pages share: calls of the HTTP API, places, messages. */

/** Where the server is: it may lie below a path of its host. */
const base = new URL("../../", import.meta.url);
const callTimeoutMs = 30_000;

/** An answer that is no success; `status` 0 when there was none. */
class CallError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const get = (path) => call("GET", path);
export const post = (path, body = {}) => call("POST", path, JSON.stringify(body));

async function call(method, path, body) {
  let response;
  let text;
  try {
    const signal = AbortSignal.timeout(callTimeoutMs);
    response = await fetch(new URL(`api${path}`, base), { method, body, signal });
    text = await response.text();
  } catch {
    throw new CallError(0, "The server does not answer. Check your connection and try again.");
  }
  const answer = parse(text);
  if (response.ok) return answer;
  throw new CallError(response.status, answer.error ?? `The server answered ${response.status}.`);
}

function parse(text) {
  try {
    return text === "" ? {} : JSON.parse(text);
  } catch {
    return {};
  }
}

/** The user, or undefined when nobody is signed in. */
export async function findMe() {
  try {
    return await get("/me");
  } catch (error) {
    if (error.status === 401) return undefined;
    throw error;
  }
}

/** The user; sends to sign-in, and back here afterwards, when nobody is signed in: then it never resolves. */
export async function requireMe() {
  const me = await findMe();
  if (me !== undefined) return me;
  const here = `/${location.pathname.slice(base.pathname.length)}${location.search}`;
  goTo(`/auth/sign-in?next=${encodeURIComponent(here)}`);
  return await new Promise(() => {});
}

/** To a path of this server, like `/auth/setup`; never to another one. */
export function goTo(path) {
  const target = new URL(`.${path}`, base);
  location.replace(target.origin === base.origin ? target : base);
}

/** The address of a path of this server, for a link. */
export function addressOf(path) {
  return new URL(`.${path}`, base).href;
}

export function query(name) {
  return new URLSearchParams(location.search).get(name) ?? "";
}

export function element(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no element ${id}`);
  return found;
}

export function show(...ids) {
  for (const id of ids) element(id).hidden = false;
}

export function hide(...ids) {
  for (const id of ids) element(id).hidden = true;
}

/** Said to everybody, also by screen readers. */
export function say(text, kind = "good") {
  const message = element("message");
  message.dataset.kind = kind;
  message.textContent = text;
}

/** Sentences of the API begin in lower case. */
export function sayError(error) {
  const text = error instanceof Error ? error.message : String(error);
  say(`${text.charAt(0).toUpperCase()}${text.slice(1)}`, "bad");
}

/** Does the work once at a time, its buttons off meanwhile; what goes wrong is said. */
export async function busy(work) {
  const buttons = [...document.querySelectorAll("button")];
  for (const button of buttons) button.disabled = true;
  say("");
  try {
    await work();
  } catch (error) {
    sayError(error);
  } finally {
    for (const button of buttons) button.disabled = false;
  }
}

export function onClick(id, work) {
  element(id).addEventListener("click", () => busy(work));
}

/** `work` gets the form's fields by name, trimmed. */
export function onSubmit(id, work) {
  const form = element(id);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const fields = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim()]));
    busy(() => work(fields));
  });
}

/** For a page's first steps. */
export function start(work) {
  work().catch(sayError);
}
