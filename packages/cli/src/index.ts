/** What the repository's generators take from the command: its table, and the reference page made from it. */
export type { ArgumentSpec, CommandSpec, OptionSpec } from "./command.ts";
export { COMMANDS } from "./commands/index.ts";
export { renderCliReference } from "./reference.ts";
