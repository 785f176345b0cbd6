import { BelljarError } from "@belljar/protocol";

/** What the daemon's command line says. */
export interface DaemonArguments {
  /** `[key, text]` pairs of configuration flags */
  readonly flags: readonly (readonly [string, string])[];
  readonly configFile: string | undefined;
  /** Prints one JSON line on standard output when requests are served; the log goes to standard error */
  readonly isReadyJson: boolean;
  /** `serve`, or print something and end */
  readonly action: "serve" | "show-config" | "help" | "version";
}

const ALIASES: Readonly<Record<string, string>> = {
  "data-dir": "dataDir",
  host: "server.host",
  port: "server.port",
  domain: "previews.domain",
};

export const USAGE = `belljard: the Belljar daemon

  --data-dir DIR      everything that is kept
  --host ADDRESS      address to listen on
  --port PORT         port to listen on, 0 for a free one
  --domain DOMAIN     domain of preview hosts
  --config FILE       configuration in YAML
  --section.key VALUE any other key of the configuration
  --ready-json        print one JSON line on standard output when ready; log to standard error
  --show-config       print the configuration in force, with origins, and end
  --version, --help
`;

/** Reads argv without the program. CONFIG_INVALID for what is no flag or lacks its value. */
export function parseArgv(argv: readonly string[]): DaemonArguments {
  const flags: [string, string][] = [];
  let configFile: string | undefined;
  let isReadyJson = false;
  let action: DaemonArguments["action"] = "serve";
  const rest = argv[Symbol.iterator]();
  for (const argument of rest) {
    const [, name = "", inline] = /^--([A-Za-z][A-Za-z0-9.-]*)(?:=(.*))?$/s.exec(argument) ?? [];
    if (name === "") throw misuse(`${JSON.stringify(argument)} is no flag`);
    if (name === "ready-json") isReadyJson = true;
    else if (name === "show-config" || name === "help" || name === "version") action = name;
    else {
      const value = inline ?? rest.next().value;
      if (value === undefined) throw misuse(`--${name} lacks its value`);
      if (name === "config") configFile = value;
      else flags.push([ALIASES[name] ?? name, value]);
    }
  }
  return { flags, configFile, isReadyJson, action };
}

function misuse(problem: string): BelljarError {
  return new BelljarError("CONFIG_INVALID", `${problem}; see --help`);
}
