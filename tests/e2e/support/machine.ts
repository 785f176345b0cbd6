import { accessSync, constants, existsSync, mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

/** The repository's root. */
export const REPOSITORY = fileURLToPath(new URL("../../../", import.meta.url)).replace(/\/$/, "");

/** A directory of its own below the system's temporary one; removed on dispose. */
export function temporaryDirectory(name: string): Disposable & { readonly path: string } {
  const directory = mkdtempSync(path.join(tmpdir(), `belljar-${name}-`));
  return {
    path: directory,
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
  };
}

/** A TCP port of 127.0.0.1 that nothing listens on at this moment. */
export async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port was given");
  return address.port;
}

/** The path of `program` on PATH and in the system's directories, or undefined. */
export function findProgram(program: string): string | undefined {
  const directories = (process.env["PATH"] ?? "").split(":");
  for (const directory of [...directories, "/usr/sbin", "/usr/bin", "/sbin", "/bin"]) {
    const candidate = path.join(directory, program);
    try {
      accessSync(candidate, constants.X_OK);
      return candidate;
    } catch {
      continue;
    }
  }
  return undefined;
}

/** Node for the daemon: the packaged one where it is installed, this process's otherwise. */
export function daemonNode(repository = REPOSITORY): string {
  const packaged = path.join(repository, "node_modules", ".bin", "node");
  return existsSync(packaged) ? packaged : process.execPath;
}

/** Waits in `stepMs` steps until `check` gives something; for conditions that announce nothing. */
export async function until<Value>(
  what: string,
  check: () => Value | undefined | false | Promise<Value | undefined | false>,
  options: { timeoutMs?: number; stepMs?: number } = {},
): Promise<Value> {
  const { timeoutMs = 20_000, stepMs = 25 } = options;
  const end = performance.now() + timeoutMs;
  for (;;) {
    const value = await check();
    if (value !== undefined && value !== false) return value;
    if (performance.now() > end) throw new Error(`timed out after ${timeoutMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, stepMs));
  }
}
