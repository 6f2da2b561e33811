/** `helmr member`: who belongs to the organization, and as what. */
import { type Command, Option } from "commander";
import type { Member } from "../client/wire.ts";
import { connected, declare } from "../command.ts";
import { confirm } from "../confirm.ts";
import { type ConnectionOptions, withLogin } from "../context.ts";
import { findMember } from "../names.ts";
import { note, plain, writeJson, writeStdout, writeTable } from "../output.ts";
import { integer } from "../values.ts";

/** Contract 1.5. */
const roles = ["owner", "admin", "developer", "viewer"];

export function register(program: Command): void {
  const group = declare(program, "member", "Manage who belongs to the organization", ["helmr member list"]);
  connected(declare(group, "list", "List members, also removed ones", ["helmr member list"])).action(list);
  connected(
    declare(group, "update <member>", "Change a member's role; by e-mail address or id", [
      "helmr member update ada@example.com --role admin",
    ]),
  )
    .addOption(new Option("--role <role>", "the new role").choices(roles).makeOptionMandatory())
    .addOption(
      new Option("--expected-role <role>", "refuse unless this is the role now (default: as listed)").choices(
        roles,
      ),
    )
    .action(update);
  connected(
    declare(
      group,
      "remove <member>",
      "Remove a member with the API keys they made; by e-mail address or id",
      ["helmr member remove ada@example.com"],
    ),
  )
    .option("-y, --yes", "do not ask")
    .action(remove);
  connected(
    declare(
      group,
      "invite <email>",
      "Invite somebody; prints the link, which is also sent where e-mail is set up",
      ["helmr member invite ada@example.com --role developer"],
    ),
  )
    .addOption(new Option("--role <role>", "their role").choices(roles).makeOptionMandatory())
    .option("--expires-in-days <days>", "how long the link works", integer(1, 30))
    .action(invite);
}

const pathOf = (member: Member): string => `/members/${encodeURIComponent(member.user_id)}`;
const nameOf = (member: Member): string => plain(member.email ?? member.display_name);

const list = (options: ConnectionOptions): Promise<void> =>
  withLogin(options, async (api) => {
    const answer = await api.get("/members", { schema: "memberList" });
    if (options.json) return writeJson(answer);
    await writeTable<Member>(
      [
        { header: "NAME", value: (row) => row.display_name },
        { header: "E-MAIL", value: (row) => row.email },
        { header: "ROLE", value: (row) => row.role },
        { header: "STATUS", value: (row) => row.status },
        { header: "ID", value: (row) => row.user_id },
      ],
      answer.members,
    );
  });

const update = (
  name: string,
  options: ConnectionOptions & { role: string; expectedRole?: string },
): Promise<void> =>
  withLogin(options, async (api) => {
    const before = await findMember(api, name);
    const body = { role: options.role, expected_role: options.expectedRole ?? before.role };
    const member = await api.send("PATCH", pathOf(before), { body, schema: "member" });
    if (options.json) return writeJson(member);
    note(`${nameOf(member)} is ${member.role} now`);
  });

const remove = (name: string, options: ConnectionOptions & { yes?: boolean }): Promise<void> =>
  withLogin(options, async (api) => {
    const member = await findMember(api, name);
    await confirm(`Remove ${nameOf(member)} (${member.role}) and revoke the keys they made?`, options.yes);
    await api.remove(pathOf(member));
    if (options.json) return writeJson({ user_id: member.user_id, removed: true });
    note(`${nameOf(member)} is removed`);
  });

const invite = (
  email: string,
  options: ConnectionOptions & { role: string; expiresInDays?: number },
): Promise<void> =>
  withLogin(options, async (api) => {
    const body = {
      email,
      role: options.role,
      ...(options.expiresInDays === undefined ? {} : { expires_in_days: options.expiresInDays }),
    };
    const invitation = await api.send("POST", "/invitations", { body, schema: "createdInvitation" });
    if (options.json) return writeJson(invitation);
    note(
      `${plain(invitation.email)} is invited as ${invitation.role}, until ${invitation.expires_at}; the link:`,
    );
    await writeStdout(`${plain(invitation.invite_url)}\n`);
  });
