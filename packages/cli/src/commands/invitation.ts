/** `helmr invitation`: who was invited (`helmr member invite`) and what became of it. */
import type { Command } from "commander";
import type { Invitation } from "../client/wire.ts";
import { connected, declare } from "../command.ts";
import { type ConnectionOptions, withLogin } from "../context.ts";
import { CliError, exitCodes } from "../errors.ts";
import { note, paintStatus, plain, writeJson, writeTable } from "../output.ts";

export function register(program: Command): void {
  const group = declare(program, "invitation", "Look at invitations and revoke them", [
    "helmr invitation list",
  ]);
  connected(declare(group, "list", "List invitations, newest first", ["helmr invitation list"])).action(list);
  connected(
    declare(group, "revoke <invitation>", "Revoke a pending invitation, by e-mail address or id", [
      "helmr invitation revoke ada@example.com",
    ]),
  ).action(revoke);
}

const list = (options: ConnectionOptions): Promise<void> =>
  withLogin(options, async (api) => {
    const answer = await api.get("/invitations", { schema: "invitationList" });
    if (options.json) return writeJson(answer);
    await writeTable<Invitation>(
      [
        { header: "E-MAIL", value: (row) => row.email },
        { header: "ROLE", value: (row) => row.role },
        { header: "STATUS", value: (row) => paintStatus(row.status) },
        { header: "EXPIRES", value: (row) => row.expires_at },
        { header: "ID", value: (row) => row.id },
      ],
      answer.invitations,
    );
    if (answer.has_more) note("hint: there are more; only the newest ones are shown");
  });

const revoke = (name: string, options: ConnectionOptions): Promise<void> =>
  withLogin(options, async (api) => {
    const id = /^[0-9a-f-]{36}$/i.test(name) ? name : await pendingFor(name);
    await api.remove(`/invitations/${encodeURIComponent(id)}`);
    if (options.json) return writeJson({ id, revoked: true });
    note(`the invitation of ${plain(name)} is revoked`);

    async function pendingFor(email: string): Promise<string> {
      const { invitations } = await api.get("/invitations", { schema: "invitationList" });
      const pending = invitations.find(
        (one) => one.status === "pending" && one.email === email.trim().toLowerCase(),
      );
      if (pending !== undefined) return pending.id;
      throw new CliError(`no invitation of ${plain(email)} is pending`, {
        exitCode: exitCodes.notFound,
        hint: "`helmr invitation list` shows them",
      });
    }
  });
