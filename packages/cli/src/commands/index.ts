/** The command table: everything that `belljar` can be asked to do, as data. */
import type { CommandSpec, GroupSpec } from "../command.ts";
import { DAEMON_COMMANDS } from "./daemon.ts";
import { PREVIEW_COMMANDS } from "./preview.ts";
import { SANDBOX_COMMANDS } from "./sandbox.ts";
import { TASK_COMMANDS } from "./task.ts";
import { TOKEN_COMMANDS } from "./token.ts";

export const COMMANDS: readonly CommandSpec[] = [
  ...DAEMON_COMMANDS,
  ...SANDBOX_COMMANDS,
  ...PREVIEW_COMMANDS,
  ...TASK_COMMANDS,
  ...TOKEN_COMMANDS,
];

export const GROUPS: readonly GroupSpec[] = [
  { name: "sandbox", summary: "make, use and end sandboxes" },
  { name: "preview", summary: "see what runs inside at a URL" },
  { name: "task", summary: "run durable commands" },
  { name: "token", summary: "manage access to the API" },
  { name: "config", summary: "look at the daemon's settings" },
];
