import { chownSync, mkdirSync } from "node:fs";
import path from "node:path";
import type { Status } from "@belljar/protocol";
import { expect, test } from "vitest";
import { run } from "./support/child.ts";
import { startDaemon, stopAndLook } from "./support/daemon-process.ts";
import { REPOSITORY, temporaryDirectory, until } from "./support/machine.ts";

/** Nobody's: no account has it, so it owns nothing and is in no group. */
const STRANGER_UID = 54_321;

/**
 * The repository where the ordinary user can reach it: as root the tests run as somebody else, who may
 * not enter the directories above the clone.
 */
async function reachable(directory: string): Promise<AsyncDisposable & { readonly path: string }> {
  if (process.getuid?.() !== 0)
    return { path: REPOSITORY, [Symbol.asyncDispose]: async () => undefined };
  const at = path.join(directory, "repository");
  mkdirSync(at);
  const mounted = await run(["mount", "--bind", REPOSITORY, at]);
  expect(mounted.code, mounted.stderr).toBe(0);
  return { path: at, [Symbol.asyncDispose]: () => run(["umount", "-l", at]).then(() => undefined) };
}

test("an ordinary user's daemon seals, serves and cleans up, and says which layers it has not got", async () => {
  using directory = temporaryDirectory("ordinary");
  await run(["chmod", "755", directory.path]);
  const isRoot = process.getuid?.() === 0;
  const dataDir = path.join(directory.path, "data");
  mkdirSync(dataDir, { mode: 0o700 });
  if (isRoot) chownSync(dataDir, STRANGER_UID, STRANGER_UID);
  await using repository = await reachable(directory.path);
  const daemon = await startDaemon({
    dataDir,
    repository: repository.path,
    ...(isRoot ? { uid: STRANGER_UID } : {}),
  });
  const { api } = daemon;
  const status = await api.json<Status>("GET", "/v1/status");
  expect(status.driver.privileged).toBe(false);
  const refusedOrMade = await api.call("POST", "/v1/sandboxes", { body: {} });
  // Without cgroups the limits cannot be had: then the default is to say so, not to pretend.
  const said = refusedOrMade.status >= 400 ? refusedOrMade.body.toString() : "UNSUPPORTED";
  expect(said).toContain("UNSUPPORTED");
  const app = 'require("http").createServer((q, r) => r.end("up")).listen(8080, "127.0.0.1")';
  const sandbox = await api.create({
    onUnsupported: "degrade",
    ports: [8080],
    visibility: "public",
    start: { command: ["node", "-e", app] },
  });
  const unexplained = sandbox.effective.filter(
    ({ asked, inForce, reason = "" }) => asked && !inForce && reason === "",
  );
  expect(unexplained).toEqual([]);
  expect(
    (await api.exec(sandbox.id, "echo in; ls /root/.ssh /var/lib/dpkg/status 2>/dev/null")).stdout,
  ).toBe("in\n");
  await api.write(sandbox.id, "/home/user/kept", "kept");
  const host = `8080-${sandbox.id}.localhost:${daemon.port}`;
  const visit = () => api.call("GET", "/", { headers: { host, authorization: "" } });
  await until("the app answers", async () => (await visit()).body.toString() === "up");
  expect((await api.move(sandbox.id, "stop")).state).toBe("stopped");
  expect((await visit()).body.toString()).toBe("up");
  expect((await api.read(sandbox.id, "/home/user/kept")).toString()).toBe("kept");
  const left = await stopAndLook(daemon);
  await daemon[Symbol.asyncDispose]();
  expect(left).toEqual({ processes: [], mounts: [], cgroups: [], sockets: [] });
});
