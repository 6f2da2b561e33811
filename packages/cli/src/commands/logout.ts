/**
 * `helmr logout`: ends the session on the server and forgets it here. When the server cannot be told, it is forgotten all
 * the same and that is said: the token could still be used by whoever has a copy, until it ends by itself.
 */
import type { Command } from "commander";
import { type Revocation, revokeSession } from "../client/logout.ts";
import { connected, declare } from "../command.ts";
import { type ConnectionOptions, interruptible, resolveHost } from "../context.ts";
import { forgetCredentials, readCredentials } from "../credentials.ts";
import { CliError, exitCodes, usageError } from "../errors.ts";
import { note, plain, writeJson } from "../output.ts";

type LogoutOptions = ConnectionOptions & { readonly allHosts?: boolean };
interface Login {
  readonly url: string;
  readonly token: string;
}

export function register(program: Command): void {
  connected(
    declare(program, "logout", "Sign out of a server: end the session there and forget it here", [
      "helmr logout",
      "helmr logout --all-hosts",
    ]),
  )
    .option("--all-hosts", "of every server that is saved")
    .action(logout);
}

const logout = (options: LogoutOptions): Promise<void> =>
  interruptible(async (signal) => {
    const hosts: { url: string; revoked: boolean }[] = [];
    for (const { url, token } of await loginsOf(options)) {
      const revocation = await revokeSession(url, token, signal);
      await forgetCredentials(url, ["session_token"]);
      hosts.push({ url, revoked: revocation.outcome !== "failed" });
      note(told(url, revocation));
      const left = (await readCredentials()).hosts[url];
      if (left?.api_key !== undefined)
        note(`hint: an API key of ${url} is still saved; \`helmr host remove ${url}\` forgets it`);
    }
    if (options.json) await writeJson({ hosts });
  });

async function loginsOf(options: LogoutOptions): Promise<Login[]> {
  if (options.allHosts) {
    if (options.apiUrl !== undefined) throw usageError("give --api-url or --all-hosts, not both");
    const { hosts } = await readCredentials();
    const logins = Object.entries(hosts).flatMap(([url, host]) =>
      host.session_token === undefined ? [] : [{ url, token: host.session_token }],
    );
    if (logins.length === 0) note("no login is saved");
    return logins;
  }
  const { url, saved } = await resolveHost(options);
  if (saved?.session_token === undefined) {
    throw new CliError(`you are not signed in to ${url}`, {
      exitCode: exitCodes.auth,
      hint: "`helmr host list` shows where you are",
    });
  }
  return [{ url, token: saved.session_token }];
}

function told(url: string, revocation: Revocation): string {
  if (revocation.outcome === "failed") {
    return `the login to ${url} is forgotten here, but the server could not be told: ${plain(revocation.reason)}
hint: the session ends there 30 days after its last use, or at once when you sign out everywhere`;
  }
  return `signed out of ${url}${revocation.outcome === "revoked" ? "" : ": the session was over already"}`;
}
