/** Who is signed in, and what a signed-in user still has to do (contract 11.1, 12). */
import { type Me, rolePermissions } from "@helmr/api";
import { readStanding, type Standing } from "@helmr/store";
import type { SignedInUser } from "../auth/authorize.ts";
import type { Context, DeploymentMode } from "../context.ts";
import type { Handlers } from "../http/handlers.ts";
import { renewCookie } from "../sign-in/sign-in.ts";

export function meHandlers(context: Context): Pick<Handlers, "getMe"> {
  const { db, config } = context;
  const mode = config.deploymentMode ?? "self-hosted";
  return {
    getMe: async ({ user, request, reply }) => {
      renewCookie(context, request, reply);
      const member = user.membership?.status === "active" ? user.membership : undefined;
      const standing = await readStanding(db, member?.organizationId);
      return { status: 200, body: presentMe(user, member, standing, mode, config.publicUrl) };
    },
  };
}

type Requirements = Pick<
  Me,
  "organization_required" | "project_required" | "access_required" | "setup_token_required"
>;

/**
 * At most one thing is to do next:
 *
 *   the user                             installation             organization  setup token  access  project
 *   is an active member                  has a project there      -             -            -       -
 *   is an active member                  has none there           -             -            -       required
 *   is no active member in this session  managed-cloud            required      -            -       -
 *   is no active member in this session  self-hosted, no          required      required     -       -
 *                                        organization yet
 *   is no active member in this session  self-hosted, has its     -             -            required -
 *                                        organization
 *
 * Organization: create one, or select one of GET /api/organizations. Access: be invited. A setup token is required with
 * the organization that it creates.
 */
function requirements(isMember: boolean, standing: Standing, mode: DeploymentMode): Requirements {
  const needsOrganization = !isMember && (mode === "managed-cloud" || !standing.anyOrganization);
  return {
    organization_required: needsOrganization,
    project_required: isMember && !standing.hasProject,
    access_required: !isMember && !needsOrganization,
    setup_token_required: needsOrganization && mode === "self-hosted",
  };
}

function presentMe(
  user: SignedInUser,
  member: SignedInUser["membership"],
  standing: Standing,
  mode: DeploymentMode,
  publicUrl: string,
): Me {
  const { organization } = standing;
  const isMember = member !== undefined && organization !== undefined;
  return {
    user_id: user.userId,
    display_name: user.displayName,
    profile_image_url: user.profileImageUrl ?? "",
    public_url: publicUrl,
    ...(isMember && {
      org_id: organization.id,
      org_name: organization.name,
      org_slug: organization.slug,
      role: member.role,
    }),
    permissions: isMember ? [...rolePermissions[member.role]].sort() : [],
    ...requirements(isMember, standing, mode),
  };
}
