import { type ArgumentSpec, type CommandSpec, GLOBAL_OPTIONS, type OptionSpec } from "./command.ts";
import { COMMANDS } from "./commands/index.ts";

/** The page `docs/reference/cli.md`, made from the command table. */
export function renderCliReference(): string {
  const intro = [
    "# The command line",
    "",
    "<!-- Generated from packages/cli; run `npm run generate` to make it again. -->",
    "",
    "Standard output is data, standard error is for people. Exit codes: 0 done, 1 failed, 2 not a command line, 3 no daemon answers.",
    "`sandbox exec` and `task run` pass on the exit code of what they ran: 128 and the signal's number for one that a signal ended, 124 for one that ran out of time.",
    "Sandboxes are named by their id or their name.",
    "",
    "## Options of every command",
    "",
    ...optionTable(GLOBAL_OPTIONS),
    "",
    "The token is the one given, or `BELLJAR_TOKEN`, or the one that the first `belljar up` left in `client.json` of the data directory (mode 0600).",
    "`NO_COLOR` turns colours off; there are none where the output is not a terminal.",
    "",
  ];
  return `${[...intro, ...COMMANDS.flatMap(section)].join("\n").trimEnd()}\n`;
}

function section(spec: CommandSpec): string[] {
  const usage = [
    "belljar",
    ...spec.path,
    ...((spec.options ?? []).length > 0 ? ["[options]"] : []),
    ...(spec.args ?? []).map(usageOf),
  ];
  return [
    `## belljar ${spec.path.join(" ")}`,
    "",
    "```text",
    usage.join(" "),
    "```",
    "",
    `${spec.summary.charAt(0).toUpperCase()}${spec.summary.slice(1)}.${spec.details === undefined ? "" : ` ${spec.details}`}`,
    "",
    ...argumentTable(spec.args ?? []),
    ...((spec.options ?? []).length > 0 ? [...optionTable(spec.options ?? []), ""] : []),
    ...((spec.examples ?? []).length > 0 ? ["```sh", ...(spec.examples ?? []), "```", ""] : []),
  ];
}

function usageOf(arg: ArgumentSpec): string {
  const name = `${arg.name.toUpperCase()}${arg.rest === true ? "..." : ""}`;
  return arg.optional === true ? `[${name}]` : name;
}

function argumentTable(args: readonly ArgumentSpec[]): string[] {
  if (args.length === 0) return [];
  return [
    "| argument | what it is |",
    "| --- | --- |",
    ...args.map((arg) => `| \`${arg.name.toUpperCase()}\` | ${cell(arg.description)} |`),
    "",
  ];
}

function optionTable(options: readonly OptionSpec[]): string[] {
  return [
    "| option | what it does |",
    "| --- | --- |",
    ...options.map((option) => `| \`${cell(option.flags)}\` | ${cell(describe(option))} |`),
  ];
}

function describe(option: OptionSpec): string {
  const choices =
    option.choices === undefined
      ? ""
      : `: ${option.choices.map((choice) => `\`${choice}\``).join(", ")}`;
  return `${option.description}${choices}${option.repeat === true ? "; may be repeated" : ""}`;
}

function cell(text: string): string {
  return text.replaceAll("|", "\\|");
}
