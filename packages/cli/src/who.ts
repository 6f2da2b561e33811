/** A signed-in person in words: what GET /api/me says is still to do. */
import type { Me } from "./client/wire.ts";

/** At most one applies (the server's table in routes/me.ts). */
export function nextSteps(me: Me): string[] {
  return [
    ...(me.organization_required
      ? [
          me.setup_token_required
            ? "there is no organization yet: `helmr org create <slug>` with the installation's setup token"
            : "you are in no organization: `helmr org create <slug>`, or `helmr org list` and `helmr org select`",
        ]
      : []),
    ...(me.access_required ? ["nobody has let you in yet: ask an owner or admin for an invitation"] : []),
    ...(me.project_required ? ["there is no project yet: `helmr project create <slug>`"] : []),
  ];
}
