import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { BelljarError } from "@belljar/protocol";
import { LineCounter, parseDocument } from "yaml";
import { Secret } from "./secret.ts";
import type { ConfigKey } from "./keys.ts";
import { configKeys, parseText } from "./keys.ts";
import type { Config } from "./schema.ts";
import { configSchema, SECRET_KEYS } from "./schema.ts";

/** Where a value comes from: `default`, `file`, `env`, `flag`. */
export type ConfigOrigin = "default" | "file" | "env" | "flag";

/** Values that must not be shown, apart from the configuration. */
export interface Secrets {
  /** `name:secret` or `name=secret` */
  readonly tokens: readonly Secret[];
}

export interface LoadedConfig {
  readonly config: Config;
  readonly secrets: Secrets;
  /** Origin of each key */
  readonly origins: ReadonlyMap<string, ConfigOrigin>;
}

export interface ConfigSources {
  /** `[key, text]` pairs, such as `["server.port", "7070"]` */
  readonly flags: readonly (readonly [string, string])[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** A YAML file; missing is an error when it is named */
  readonly file?: string | undefined;
  readonly cwd: string;
  readonly isRoot: boolean;
}

/** Names that begin with `BELLJAR_` and belong to the CLI, the tests and the benchmarks. */
const FOREIGN_ENV =
  /^BELLJAR_(URL|TOKEN|CONFIG|MUST_SANDBOX|SOURCE|(TEST|DEBUG|BENCH|DEMO|E2E)_.*)$/;
const CONFIG_FILE_BYTES_MAX = 1024 * 1024;
const PROBLEMS_SHOWN_MAX = 50;
const VALUE_SHOWN_CHARS_MAX = 120;

/** This process's environment; everything else in the daemon gets values. */
export function processEnvironment(): Readonly<Record<string, string | undefined>> {
  return process.env;
}

/**
 * Flags over environment over file over defaults, checked as a whole.
 * Throws CONFIG_INVALID with every problem, one a line, each naming key, value and origin.
 */
export function loadConfig(sources: ConfigSources): LoadedConfig {
  const reader = new Reader(sources);
  reader.readFile();
  reader.readEnv();
  reader.readFlags();
  reader.fillDataDir();
  const parsed = configSchema.safeParse(reader.tree);
  if (!parsed.success) reader.noteIssues(parsed.error.issues);
  if (reader.problems.length > 0 || !parsed.success) throw invalid(reader.problems);
  const { tokens } = parsed.data.auth;
  return {
    config: Object.freeze({ ...parsed.data, auth: { tokens: [] } }),
    secrets: { tokens: tokens.map((token) => new Secret(token)) },
    origins: reader.origins,
  };
}

function invalid(problems: readonly string[]): BelljarError {
  const shown = problems.slice(0, PROBLEMS_SHOWN_MAX);
  const rest = problems.length - shown.length;
  if (rest > 0) shown.push(`and ${rest} more`);
  return new BelljarError(
    "CONFIG_INVALID",
    `The configuration has problems:\n  ${shown.join("\n  ")}`,
    {
      problems: shown,
    },
  );
}

type Tree = { [name: string]: unknown };

class Reader {
  /** Without a prototype, so a key named `__proto__` is an unknown key like any other */
  readonly tree: Tree = emptyTree();
  readonly problems: string[] = [];
  readonly origins = new Map<string, ConfigOrigin>();
  readonly #lines = new Map<string, number>();
  readonly #keys: ReadonlyMap<string, ConfigKey>;
  readonly #sources: ConfigSources;

  constructor(sources: ConfigSources) {
    this.#sources = sources;
    this.#keys = new Map(configKeys().map((key) => [key.key, key]));
    for (const key of this.#keys.keys()) this.origins.set(key, "default");
  }

  readFile(): void {
    const { file } = this.#sources;
    if (file === undefined) return;
    const text = this.#fileText(file);
    if (text === undefined) return;
    const lineCounter = new LineCounter();
    const document = parseDocument(text, { lineCounter, strict: true, uniqueKeys: true });
    for (const error of document.errors)
      this.problems.push(`${file}: ${error.message.split("\n")[0] ?? ""}`);
    if (document.errors.length > 0) return;
    const content: unknown = document.toJS({ maxAliasCount: 0 });
    if (content === null || content === undefined) return;
    if (!isTree(content)) {
      this.problems.push(`${file}: must be a mapping of sections`);
      return;
    }
    this.#mergeFile(content, [], (path) => {
      const node: unknown = document.getIn(path, true);
      const range =
        isTree(node) && Array.isArray(node["range"]) ? Number(node["range"][0]) : undefined;
      return range === undefined ? undefined : lineCounter.linePos(range).line;
    });
  }

  #fileText(file: string): string | undefined {
    try {
      const text = readFileSync(resolve(this.#sources.cwd, file), "utf8");
      if (text.length <= CONFIG_FILE_BYTES_MAX) return text;
      this.problems.push(`${file}: is larger than ${CONFIG_FILE_BYTES_MAX} bytes`);
    } catch (error) {
      this.problems.push(`${file}: ${error instanceof Error ? error.message : String(error)}`);
    }
    return undefined;
  }

  #mergeFile(content: Tree, path: string[], lineOf: (path: string[]) => number | undefined): void {
    for (const [name, value] of Object.entries(content)) {
      const here = [...path, name];
      const key = here.join(".");
      const line = lineOf(here);
      if (line !== undefined) this.#lines.set(key, line);
      if (isTree(value) && !this.#keys.has(key)) {
        if (Object.keys(value).length === 0) this.#set(here, emptyTree());
        this.#mergeFile(value, here, lineOf);
      } else if (value !== null || this.#keys.has(key)) {
        this.#set(here, value);
        this.origins.set(key, "file");
      }
    }
  }

  readEnv(): void {
    const byEnv = new Map([...this.#keys.values()].map((key) => [key.env, key]));
    for (const [name, text] of Object.entries(this.#sources.env)) {
      if (!name.startsWith("BELLJAR_") || text === undefined || FOREIGN_ENV.test(name)) continue;
      const key = byEnv.get(name);
      if (key === undefined) this.problems.push(`${name}: names no configuration key`);
      else this.#setText(key, text, "env");
    }
  }

  readFlags(): void {
    const seen = new Set<string>();
    for (const [name, text] of this.#sources.flags) {
      const key = this.#keys.get(name);
      if (key === undefined) this.problems.push(`--${name}: names no configuration key`);
      else if (seen.has(name)) this.problems.push(`--${name}: is given twice`);
      else this.#setText(key, text, "flag");
      seen.add(name);
    }
  }

  fillDataDir(): void {
    const { cwd, env, isRoot } = this.#sources;
    const given = this.tree["dataDir"];
    if (typeof given === "string" && given !== "") this.tree["dataDir"] = resolve(cwd, given);
    if (given !== undefined) return;
    const home = env["XDG_DATA_HOME"] ?? join(env["HOME"] ?? homedir(), ".local/share");
    this.tree["dataDir"] = isRoot ? "/var/lib/belljar" : join(home, "belljar");
  }

  #setText(key: ConfigKey, text: string, origin: "env" | "flag"): void {
    const result = parseText(key, text);
    const name = origin === "env" ? key.env : `--${key.key}`;
    if ("problem" in result) {
      this.problems.push(`${name}: ${SECRET_KEYS.has(key.key) ? "is malformed" : result.problem}`);
      return;
    }
    this.#set(key.path, result.value);
    this.origins.set(key.key, origin);
  }

  #set(path: readonly string[], value: unknown): void {
    let node = this.tree;
    for (const name of path.slice(0, -1)) {
      const next = node[name];
      const child: Tree = isTree(next) ? next : emptyTree();
      node[name] = child;
      node = child;
    }
    const last = path.at(-1);
    if (last !== undefined) node[last] = value;
  }

  noteIssues(issues: readonly SchemaIssue[]): void {
    for (const issue of issues) {
      const path = issue.path.map(String);
      if (issue.code === "unrecognized_keys") {
        for (const name of issue.keys ?? [])
          this.#note([...path, name], "names no configuration key");
      } else {
        this.#note(path, this.#withValue(path, issue.message));
      }
    }
  }

  #withValue(path: readonly string[], message: string): string {
    const key = path.filter((part) => !/^[0-9]+$/.test(part)).join(".");
    if (SECRET_KEYS.has(key)) return message;
    let value: unknown = this.tree;
    for (const name of path)
      value = isTree(value) || Array.isArray(value) ? Reflect.get(value, name) : undefined;
    if (value === undefined) return message;
    return `${message}, got ${JSON.stringify(value).slice(0, VALUE_SHOWN_CHARS_MAX)}`;
  }

  #note(path: readonly string[], message: string): void {
    const key = path.filter((part) => !/^[0-9]+$/.test(part)).join(".");
    const origin = this.origins.get(key) ?? "file";
    const line = this.#lines.get(path.join(".")) ?? this.#lines.get(key);
    const places: Record<ConfigOrigin, string> = {
      default: "",
      file: `${this.#sources.file ?? "file"}${line === undefined ? "" : `:${line}`}: `,
      env: `${this.#keys.get(key)?.env ?? ""}: `,
      flag: `--${key}: `,
    };
    this.problems.push(
      `${places[origin]}${origin === "env" || origin === "flag" ? "" : `${path.join(".")}: `}${message}`,
    );
  }
}

/** What is used of one of zod's issues. */
interface SchemaIssue {
  readonly path: readonly PropertyKey[];
  readonly code: string | undefined;
  readonly message: string;
  readonly keys?: readonly string[];
}

function emptyTree(): Tree {
  return Object.create(null) as Tree;
}

function isTree(value: unknown): value is Tree {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
