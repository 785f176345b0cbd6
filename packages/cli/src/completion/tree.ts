import { type CommandSpec, GLOBAL_OPTIONS, type OptionSpec } from "../command.ts";
import { COMMANDS, GROUPS } from "../commands/index.ts";

/** One completable word: what it is and what it means. */
export interface Word {
  readonly word: string;
  readonly summary: string;
}

/** What can follow a command's words. */
export interface CompletionNode {
  /** The words so far, separated by spaces; empty at the start */
  readonly path: string;
  readonly words: readonly Word[];
  readonly options: readonly CompletionOption[];
  /** What the first argument is, if it can be completed */
  readonly argument: "sandbox" | readonly string[] | undefined;
}

export interface CompletionOption extends Word {
  readonly short: string | undefined;
  readonly takesValue: boolean;
  readonly choices: readonly string[];
}

/** Every place of the command tree, the start first. */
export function completionNodes(): CompletionNode[] {
  const top = [
    ...COMMANDS.filter((spec) => spec.path.length === 1).map((spec) => ({
      word: spec.path[0] ?? "",
      summary: spec.summary,
    })),
    ...GROUPS.map((group) => ({ word: group.name, summary: group.summary })),
  ];
  const groups = GROUPS.map((group) => ({
    path: group.name,
    words: COMMANDS.filter((spec) => spec.path.length > 1 && spec.path[0] === group.name).map(
      (spec) => ({
        word: spec.path[1] ?? "",
        summary: spec.summary,
      }),
    ),
    options: optionsOf([]),
    argument: undefined,
  }));
  return [
    { path: "", words: top, options: optionsOf([]), argument: undefined },
    ...groups,
    ...COMMANDS.map(nodeOf),
  ];
}

function nodeOf(spec: CommandSpec): CompletionNode {
  const first = spec.args?.[0];
  const isSandbox = first?.name === "sandbox" || first?.name === "sandboxes";
  return {
    path: spec.path.join(" "),
    words: [],
    options: optionsOf(spec.options ?? []),
    argument: isSandbox ? "sandbox" : first?.choices,
  };
}

function optionsOf(own: readonly OptionSpec[]): CompletionOption[] {
  const help: OptionSpec = { flags: "-h, --help", description: "show this help" };
  return [...own, ...GLOBAL_OPTIONS, help].map((option) => ({
    word: /--[a-z-]+/.exec(option.flags)?.[0] ?? option.flags,
    short: /^-([A-Za-z]),/.exec(option.flags)?.[1],
    summary: option.description,
    takesValue: option.flags.includes("<"),
    choices: option.choices ?? [],
  }));
}
