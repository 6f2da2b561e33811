/** A run that waits for a person, from the command line: what it waits for, and the command that lets it go on. */
import { beforeAll, expect, it, vi } from "vitest";
import { deployBehaviours, finished } from "./support/behaviours.ts";
import { helmr, helmrJson } from "./support/cli.ts";
import { stackClient, stackEnv } from "./support/client.ts";

beforeAll(deployBehaviours, 300_000);

it("run get names the token, token complete lets the run go on, output read shows what it said", async () => {
  const { run, session } = await stackClient().sessions.start("asks", {});
  interface Shown {
    readonly status: string;
    readonly pending_wait?: { readonly kind: string; readonly params: { readonly token_id: string } };
  }
  const shown = await vi.waitUntil(
    async () => {
      const now = await helmrJson<Shown>(["run", "get", run.id], { env: stackEnv() });
      return now.pending_wait === undefined ? undefined : now;
    },
    { timeout: 120_000, interval: 500 },
  );
  expect(shown).toMatchObject({ status: "waiting", pending_wait: { kind: "token" } });
  const token = shown.pending_wait?.params.token_id ?? "";
  const text = await helmr(["run", "get", run.id], { env: stackEnv() });
  expect(text.stdout).toContain(`helmr token complete ${token} --data`);
  const said = await helmrJson<{ record: { data: { callback: string } } }>(
    ["session", "output", "read", session.id, "news", "--follow"],
    { env: stackEnv() },
  );
  expect(said.record.data.callback).toContain(`/api/v1/tokens/${token}/callback/hlmr_callback_`);
  const streams = await helmrJson<{ streams: { name: string }[] }>(["session", "streams", session.id], {
    env: stackEnv(),
  });
  expect(streams.streams.map(({ name }) => name)).toEqual(expect.arrayContaining(["answers", "news"]));
  const completed = await helmrJson<{ status: string }>(
    ["token", "complete", token, "--data", '{"approved":true}'],
    { env: stackEnv() },
  );
  expect(completed.status).toBe("completed");
  expect((await finished(run.id, session.id)).run.status).toBe("succeeded");
});

it("input send is heard, and output list --follow prints what is said until the session is over", async () => {
  const client = stackClient();
  const { run, session } = await client.sessions.start("converses");
  const follow = helmr(["session", "output", "list", session.id, "news", "--follow", "--json"], {
    env: stackEnv(),
  });
  for (const text of ["one", "end"]) {
    const sent = await helmrJson<{ record: { data: unknown } }>(
      ["session", "input", "send", session.id, "answers", "--data", JSON.stringify({ text })],
      { env: stackEnv() },
    );
    expect(sent.record.data).toEqual({ text });
  }
  expect((await finished(run.id, session.id)).run.output).toEqual(["one", "end"]);
  await client.sessions.open(session.id).close();
  const { stdout, exitCode } = await follow;
  expect(exitCode).toBe(0);
  const lines = stdout
    .split("\n")
    .map((line) => JSON.parse(line) as { data: unknown; correlation_id: string });
  expect(lines.map(({ data }) => data)).toEqual([{ echo: "one" }, { echo: "end" }]);
  expect(lines.map(({ correlation_id }) => correlation_id)).toEqual(["one", "end"]);
});
