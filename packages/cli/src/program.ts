import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import {
  type ArgumentSpec,
  type CommandSpec,
  GLOBAL_OPTIONS,
  type GlobalOptions,
  type OptionSpec,
} from "./command.ts";
import { COMMANDS, GROUPS } from "./commands/index.ts";
import { EXIT, UsageError } from "./failure.ts";
import { Input } from "./input.ts";

/** Stands for null while the parser holds it, which would take null for an empty text. */
const NEVER = Symbol("never");

/** What a command line asks for. */
export interface Invocation {
  readonly spec: CommandSpec;
  readonly input: Input;
  readonly globals: GlobalOptions;
}

/** A command line that is answered by text alone: help or the version. */
export interface Answered {
  readonly exitCode: number;
}

/**
 * Parses a command line against the table. Help and version are printed by the parser itself;
 * everything that is not a command line is a UsageError.
 */
export function parseCommandLine(
  argv: readonly string[],
  env: NodeJS.ProcessEnv,
  version: string,
): Invocation | Answered {
  const chosen: { invocation?: Invocation } = {};
  const program = buildProgram(version, (spec, command) => {
    chosen.invocation = {
      spec,
      input: inputOf(spec, command),
      globals: globalsOf(program, command, env),
    };
  });
  if (argv.length === 0) {
    program.outputHelp();
    return { exitCode: EXIT.ok };
  }
  try {
    program.parse([...argv], { from: "user" });
  } catch (error) {
    return answerOf(error);
  }
  if (chosen.invocation === undefined)
    throw new UsageError("no command is named", "Run `belljar --help`.");
  return chosen.invocation;
}

function answerOf(error: unknown): Answered {
  if (!(error instanceof CommanderError)) throw error;
  if (error.code === "commander.helpDisplayed" || error.code === "commander.version")
    return { exitCode: EXIT.ok };
  if (error.code === "commander.help") return { exitCode: EXIT.usage };
  throw new UsageError(error.message.replace(/^error: /, ""));
}

function buildProgram(
  version: string,
  choose: (spec: CommandSpec, command: Command) => void,
): Command {
  const program = new Command("belljar");
  program
    .description("Sealed sandboxes that start in milliseconds, each with a live URL.")
    .version(version, "-V, --version", "print the version")
    .enablePositionalOptions();
  prepare(program);
  addGlobalOptions(program);
  for (const group of GROUPS) {
    const command = program.command(group.name).description(group.summary);
    prepare(command);
    addGlobalOptions(command);
  }
  for (const spec of COMMANDS) addCommand(program, spec, choose);
  return program;
}

function addCommand(
  program: Command,
  spec: CommandSpec,
  choose: (spec: CommandSpec, command: Command) => void,
): void {
  const name = spec.path.at(-1) ?? "";
  const parent =
    program.commands.find((each) => spec.path.length > 1 && each.name() === spec.path[0]) ??
    program;
  const command = parent.command(name).summary(spec.summary).description(describe(spec));
  prepare(command);
  if (spec.passThrough === true) command.passThroughOptions();
  for (const arg of spec.args ?? []) addArgument(command, arg);
  for (const option of spec.options ?? []) command.addOption(toOption(option));
  addGlobalOptions(command);
  if (spec.examples !== undefined) {
    command.addHelpText(
      "after",
      `\nExamples:\n${spec.examples.map((line) => `  $ ${line}`).join("\n")}`,
    );
  }
  command.action(() => choose(spec, command));
}

function describe(spec: CommandSpec): string {
  const summary = `${spec.summary.charAt(0).toUpperCase()}${spec.summary.slice(1)}.`;
  return spec.details === undefined ? summary : `${summary}\n${spec.details}`;
}

function prepare(command: Command): void {
  command
    .exitOverride()
    .showSuggestionAfterError()
    .helpOption("-h, --help", "show this help")
    .helpCommand(false)
    .configureOutput({ outputError: () => undefined });
}

/** After the command's own, which is where help shows them. */
function addGlobalOptions(command: Command): void {
  for (const option of GLOBAL_OPTIONS) command.addOption(toOption(option));
}

function addArgument(command: Command, spec: ArgumentSpec): void {
  const inner = spec.rest === true ? `${spec.name}...` : spec.name;
  const argument = command.createArgument(
    spec.optional === true ? `[${inner}]` : `<${inner}>`,
    spec.description,
  );
  if (spec.choices !== undefined) argument.choices([...spec.choices]);
  command.addArgument(argument);
}

function toOption(spec: OptionSpec): Option {
  const option = new Option(spec.flags, spec.description);
  if (spec.choices !== undefined) option.choices([...spec.choices]);
  const { parse, repeat } = spec;
  if (parse === undefined && repeat !== true) return option;
  option.argParser((text: string, before: unknown) => {
    const value = parse === undefined ? text : (parseOrRefuse(parse, text) ?? NEVER);
    const earlier: readonly unknown[] = Array.isArray(before) ? before : [];
    return repeat === true ? [...earlier, value] : value;
  });
  return option;
}

/** commander names the option in front of the message of this error alone. */
function parseOrRefuse(parse: (text: string) => unknown, text: string): unknown {
  try {
    return parse(text);
  } catch (error) {
    if (error instanceof UsageError)
      throw new InvalidArgumentError(`${error.message}. ${error.hint}`);
    throw error;
  }
}

function inputOf(spec: CommandSpec, command: Command): Input {
  const values = new Map<string, unknown>();
  for (const [name, value] of Object.entries(command.opts()))
    values.set(name, value === NEVER ? null : value);
  for (const [index, arg] of (spec.args ?? []).entries()) {
    const value: unknown = command.processedArgs[index];
    values.set(arg.name, spec.passThrough === true ? withoutDash(value) : value);
  }
  return new Input(values);
}

/** `exec web -- ls` and `exec web ls` are the same. */
function withoutDash(value: unknown): unknown {
  if (!Array.isArray(value) || value[0] !== "--") return value;
  if (value.length === 1) throw new UsageError("no command is named after --");
  return value.slice(1);
}

/** A global option counts wherever it stands: before the command's words or after them. */
function globalsOf(program: Command, command: Command, env: NodeJS.ProcessEnv): GlobalOptions {
  const given: Record<string, unknown> = {};
  for (let each: Command | null = command; each !== null; each = each.parent)
    Object.assign(given, { ...each.opts(), ...given });
  const text = (name: string, variable: string): string | undefined => {
    const value = given[name];
    return typeof value === "string" ? value : env[variable] || undefined;
  };
  return {
    json: given["json"] === true,
    dataDir: text("dataDir", "BELLJAR_DATA_DIR"),
    url: text("url", "BELLJAR_URL"),
    token: text("token", "BELLJAR_TOKEN"),
  };
}
