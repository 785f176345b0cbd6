import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { BelljarError } from "@belljar/protocol";

const NODE_MAJOR = 24;
const NODE_MINOR = 15;

/** Variables that are the command's own; the daemon refuses names that it does not know. */
const OWN_VARIABLES = new Set([
  "BELLJAR_URL",
  "BELLJAR_TOKEN",
  "BELLJAR_DATA_DIR",
  "BELLJAR_DEBUG_STACK",
]);

/** How to run the daemon: its packages lie beside this one, in the repository and in `node_modules` alike. */
export async function daemonCommand(): Promise<{ program: string; entry: string }> {
  const packageDir = dirname(dirname(fileURLToPath(import.meta.url)));
  const entry = join(packageDir, "..", "daemon", "dist", "main.js");
  if (!(await isReadable(entry))) {
    throw new BelljarError(
      "TOOL_MISSING",
      `the daemon is not built: ${entry} is missing; run \`npm run build\``,
      { entry },
    );
  }
  return { program: await findNode(packageDir), entry };
}

/** This process's environment without what belongs to the command alone. */
export function daemonEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !OWN_VARIABLES.has(name)),
  );
}

/** The daemon needs a newer Node than the command does; the workspace packages one. */
async function findNode(from: string): Promise<string> {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  if (major > NODE_MAJOR || (major === NODE_MAJOR && minor >= NODE_MINOR)) return process.execPath;
  for (let directory = from; ; directory = dirname(directory)) {
    const candidate = join(directory, "node_modules", ".bin", "node");
    if (await isReadable(candidate, constants.X_OK)) return candidate;
    if (directory === dirname(directory)) break;
  }
  throw new BelljarError(
    "TOOL_MISSING",
    `the daemon needs Node ${NODE_MAJOR}.${NODE_MINOR} or newer; this is ${process.version} and no packaged Node was found`,
  );
}

async function isReadable(path: string, mode: number = constants.R_OK): Promise<boolean> {
  return access(path, mode).then(
    () => true,
    () => false,
  );
}
