import { parseArgs } from "node:util";

/** What was asked for on the command line. */
export interface Options {
  readonly json: boolean;
  readonly quick: boolean;
  /** Names of the rows to measure; empty means all */
  readonly rows: readonly string[];
  readonly help: boolean;
  /** Exit 1 when a row misses its budget */
  readonly strict: boolean;
}

export const USAGE = `npm run bench -- [--rows a,b] [--quick] [--json] [--strict]

  --rows a,b   only these rows
  --quick      fewer samples: a look, not a measurement
  --json       one array of {name, unit, p50, p99, peer, peerP50, ratio} on stdout
  --strict     exit 1 when a row misses its budget
`;

/**
 * Parses the command line.
 *
 * @throws an Error that names the unknown option or row
 */
export function parseOptions(argv: readonly string[], known: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      json: { type: "boolean", default: false },
      quick: { type: "boolean", default: false },
      rows: { type: "string", default: "" },
      strict: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  const rows = values.rows
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "");
  const unknown = rows.filter((name) => !known.includes(name));
  if (unknown.length > 0) {
    throw new Error(`no row named ${unknown.join(", ")}; there are: ${known.join(", ")}`);
  }
  return { json: values.json, quick: values.quick, rows, help: values.help, strict: values.strict };
}
