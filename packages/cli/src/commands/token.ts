import type { CommandSpec } from "../command.ts";
import { parseDuration } from "../values/duration.ts";

/** Access to the API. */
export const TOKEN_COMMANDS: readonly CommandSpec[] = [
  {
    path: ["token", "create"],
    summary: "make a token; its value is shown this once",
    args: [{ name: "name", description: "what it is for" }],
    options: [
      {
        flags: "--scope <scope>",
        description: "what it may do, default operate",
        choices: ["read", "operate", "admin"],
      },
      {
        flags: "--expires <duration>",
        description: "when it ends, such as 30d; default never",
        parse: parseDuration,
      },
    ],
    examples: ["belljar token create ci --scope operate --expires 30d"],
    load: async () => (await import("../actions/token.ts")).tokenCreate,
  },
  {
    path: ["token", "ls"],
    summary: "list tokens, without their values",
    examples: ["belljar token ls"],
    load: async () => (await import("../actions/token.ts")).tokenList,
  },
  {
    path: ["token", "rm"],
    summary: "revoke a token",
    args: [{ name: "token", description: "id or name" }],
    examples: ["belljar token rm ci"],
    load: async () => (await import("../actions/token.ts")).tokenRemove,
  },
];
