import type { Input } from "./input.ts";
import type { Output } from "./output.ts";

/** A positional argument. */
export interface ArgumentSpec {
  /** As shown in help, such as `sandbox` */
  readonly name: string;
  readonly description: string;
  readonly optional?: boolean;
  /** Takes all that is left */
  readonly rest?: boolean;
  readonly choices?: readonly string[];
}

/** An option; its value reaches the action as `parse` returns it, under its long name. */
export interface OptionSpec {
  /** commander's notation, such as `-p, --port <port>` */
  readonly flags: string;
  readonly description: string;
  /** Turns the text into a value; throws a UsageError for what is not one */
  readonly parse?: (text: string) => unknown;
  /** May be given several times; the action gets a list */
  readonly repeat?: boolean;
  readonly choices?: readonly string[];
}

/** What every action gets beside its input. */
export interface Context {
  readonly output: Output;
  readonly globals: GlobalOptions;
  /** Aborted on SIGINT, SIGTERM and SIGHUP, so that waits end and what was begun is cleaned up */
  readonly signal: AbortSignal;
}

/** Options that every command takes. */
export interface GlobalOptions {
  readonly json: boolean;
  readonly dataDir: string | undefined;
  readonly url: string | undefined;
  readonly token: string | undefined;
}

/** Does the work; the number is the exit code, nothing is 0. */
export type Action = (context: Context, input: Input) => Promise<number | void>;

/**
 * One command as data. Help, shell completion and the reference page are made from it; the action
 * is imported only when the command runs, so that `--help` costs no client library.
 */
export interface CommandSpec {
  /** Words that name it, object then verb */
  readonly path: readonly string[];
  readonly summary: string;
  /** More than the summary, in full sentences */
  readonly details?: string;
  readonly args?: readonly ArgumentSpec[];
  readonly options?: readonly OptionSpec[];
  readonly examples?: readonly string[];
  /** Options stop at the first argument, so that the rest can be another program's command line */
  readonly passThrough?: boolean;
  readonly load: () => Promise<Action>;
}

/** A word that only groups commands. */
export interface GroupSpec {
  readonly name: string;
  readonly summary: string;
}

/** The options of every command, in the order that help shows them. */
export const GLOBAL_OPTIONS: readonly OptionSpec[] = [
  {
    flags: "--json",
    description: "print JSON of the API's types; errors as the API's error envelope",
  },
  { flags: "--data-dir <dir>", description: "the daemon's data directory (env BELLJAR_DATA_DIR)" },
  { flags: "--url <url>", description: "the daemon's URL (env BELLJAR_URL)" },
  {
    flags: "--token <token>",
    description: "the token to use (env BELLJAR_TOKEN, which ps does not show)",
  },
];
