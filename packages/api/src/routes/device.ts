/** Sign-in of a command line, and who is signed in (contract 12). */
import * as wire from "../wire/index.ts";
import { get, post } from "./route.ts";

const open = { access: { kind: "public" } } as const;
const signedIn = { access: { kind: "user" } } as const;
const member = { access: { kind: "member" } } as const;

export const deviceRoutes = {
  startDeviceCode: {
    ...post,
    ...open,
    path: "/auth/device/start",
    rateLimit: "device_start",
    summary: "Begin the sign-in of a command line",
    bodyIgnored: true,
    responses: { 201: wire.deviceCodeStart },
    errors: [503],
  },
  pollDeviceCode: {
    ...post,
    ...open,
    path: "/auth/device/token",
    rateLimit: "device_poll",
    summary: "Ask whether the sign-in was approved; the session token is handed out once",
    body: wire.deviceTokenRequest,
    bodyError: "invalid_request",
    responses: { 200: wire.deviceToken, 202: wire.deviceTokenPending },
  },
  getDeviceCode: {
    ...get,
    ...signedIn,
    path: "/auth/device/status",
    rateLimit: "user_code",
    summary: "Read what became of a user code",
    query: wire.deviceStatusQuery,
    responses: { 200: wire.deviceStatus },
  },
  approveDeviceCode: {
    ...post,
    ...member,
    path: "/auth/device/approve",
    rateLimit: "user_code",
    summary: "Let the command line in that shows this user code",
    body: wire.deviceDecisionRequest,
    responses: { 200: wire.deviceDecision },
  },
  denyDeviceCode: {
    ...post,
    ...member,
    path: "/auth/device/deny",
    rateLimit: "user_code",
    summary: "Refuse the command line that shows this user code",
    body: wire.deviceDecisionRequest,
    responses: { 200: wire.deviceDecision },
  },
  getMe: {
    ...get,
    ...signedIn,
    path: "/me",
    summary: "Read who is signed in, and what is still to do before working",
    responses: { 200: wire.me },
  },
} as const;
