import type { ExecRequest } from "../guest/index.ts";
import type { CommandDefaults } from "../sandbox/index.ts";

/** What the API's requests have in common about a command. */
export interface CommandFields {
  readonly command: string | readonly string[];
  readonly env?: Record<string, string> | undefined;
  readonly cwd?: string | undefined;
  readonly user?: string | undefined;
  readonly timeoutMs?: number | undefined;
}

/** A guest's request: what was asked for, over what commands of the sandbox start with. */
export function toExecRequest(fields: CommandFields, defaults: CommandDefaults): ExecRequest {
  const env = { ...defaults.env };
  // The defaults' HOME is the default user's; the guest knows the home of any other.
  if (fields.user !== undefined && fields.user !== defaults.user) delete env["HOME"];
  Object.assign(env, fields.env);
  return {
    command:
      typeof fields.command === "string" ? ["/bin/sh", "-c", fields.command] : [...fields.command],
    env,
    cwd: fields.cwd ?? defaults.cwd,
    user: fields.user ?? defaults.user,
    ...(fields.timeoutMs === undefined ? {} : { timeoutMs: fields.timeoutMs }),
  };
}
