/** Schedules (contract 8). */
import * as wire from "../wire/index.ts";
import { environment, get, post, put, remove } from "./route.ts";

const one = {
  params: wire.scheduleParams,
  responses: { 200: wire.schedule },
} as const;

export const scheduleRoutes = {
  listSchedules: {
    ...get,
    ...environment("runs.read"),
    path: "/schedules",
    summary: "List schedules, newest first",
    responses: { 200: wire.scheduleList },
  },
  createSchedule: {
    ...post,
    ...environment("runs.create"),
    path: "/schedules",
    summary: "Create a schedule",
    body: wire.scheduleCreateRequest,
    responses: { 201: wire.schedule },
    errors: [409],
  },
  getSchedule: {
    ...get,
    ...environment("runs.read"),
    ...one,
    path: "/schedules/:scheduleID",
    summary: "Read a schedule",
  },
  updateSchedule: {
    ...put,
    ...environment("runs.create"),
    ...one,
    path: "/schedules/:scheduleID",
    summary: "Replace what a schedule starts, and when",
    body: wire.scheduleUpdateRequest,
  },
  activateSchedule: {
    ...post,
    ...environment("runs.create"),
    ...one,
    path: "/schedules/:scheduleID/activate",
    summary: "Let a schedule fire again, from its next time on",
    bodyIgnored: true,
  },
  deactivateSchedule: {
    ...post,
    ...environment("runs.create"),
    ...one,
    path: "/schedules/:scheduleID/deactivate",
    summary: "Stop a schedule from firing",
    bodyIgnored: true,
  },
  deleteSchedule: {
    ...remove,
    ...environment("runs.create"),
    path: "/schedules/:scheduleID",
    summary: "Delete a schedule; what it started goes on",
    params: wire.scheduleParams,
    responses: { 204: null },
  },
} as const;
