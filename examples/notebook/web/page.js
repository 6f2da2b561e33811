/** Runs what is typed, shows the files and the history, and goes back to an earlier version. */
const element = (id) => document.getElementById(id);
const say = (text) => {
  element("message").textContent = text;
};
let folder = "";

async function ask(path, body) {
  const sent = {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  };
  const response = await fetch(path, body === undefined ? undefined : sent);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

function append(text, kind) {
  const span = document.createElement("span");
  span.className = kind;
  span.textContent = text;
  element("output").append(span);
  element("output").scrollTop = element("output").scrollHeight;
}

/** One JSON value per line, as they come. */
async function* lines(response) {
  let rest = "";
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    rest += decoder.decode(value, { stream: !done });
    const all = rest.split("\n");
    rest = all.pop();
    for (const line of all) if (line !== "") yield JSON.parse(line);
    if (done) return;
  }
}

async function run(command) {
  append(`$ ${command}\n`, "note");
  const body = JSON.stringify({ command });
  const response = await fetch("/run", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body,
  });
  for await (const line of lines(response)) {
    if (line.text !== undefined) append(line.text, line.stream);
    else append(`[${line.end ?? line.note ?? line.error}]\n`, "note");
  }
}

function item(text, actions) {
  const li = document.createElement("li");
  li.append(text);
  for (const [label, act] of actions) {
    const button = document.createElement("button");
    button.textContent = label;
    button.addEventListener("click", () => guarded(act));
    li.append(button);
  }
  return li;
}

async function showFiles() {
  const entries = await ask(`/files?path=${encodeURIComponent(folder)}`);
  element("path").textContent = `/${folder}`;
  const up =
    folder === "" ? [] : [item("..", [["open", () => enter(folder.split("/").slice(0, -1).join("/"))]])];
  const rows = entries.map(({ name, path, kind, sizeBytes }) =>
    kind === "directory"
      ? item(`${name}/`, [["open", () => enter(path)]])
      : item(
          `${name} (${sizeBytes} bytes)`,
          kind === "file" && sizeBytes > 0 ? [["show", () => showFile(path)]] : [],
        ),
  );
  element("files").replaceChildren(...up, ...rows);
}

async function enter(path) {
  folder = path;
  await showFiles();
}

async function showFile(path) {
  element("file").textContent = await ask(`/file?path=${encodeURIComponent(path)}`);
  element("file").hidden = false;
}

async function showHistory() {
  const entries = await ask("/history");
  const rows = entries.map(({ version, message, at, isCurrent }) =>
    item(`${new Date(at).toLocaleString()} ${message}${isCurrent ? " (now)" : ""}`, [
      ["changes", () => showChanges(version)],
      ...(isCurrent ? [] : [["restore", () => restore(version)]]),
    ]),
  );
  element("history").replaceChildren(...rows);
}

async function showChanges(version) {
  const changes = await ask(`/changes?version=${version}`);
  say(changes.map(({ change, path }) => `${change} ${path}`).join(", ") || "no changes");
}

async function restore(version) {
  await ask("/restore", { version });
  await refresh();
}

async function refresh() {
  element("file").hidden = true;
  await Promise.all([showFiles(), showHistory()]);
}

function guarded(work) {
  say("");
  return work().catch((error) => say(error.message));
}

element("run").addEventListener("submit", (event) => {
  event.preventDefault();
  const command = element("command").value;
  element("command").value = "";
  guarded(async () => {
    await run(command);
    await enter("");
    await refresh();
  });
});
guarded(refresh);
