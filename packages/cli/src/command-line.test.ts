import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { errorEnvelopeSchema } from "@belljar/protocol";
import { test as base, describe, expect } from "vitest";
import { runBelljar } from "./testing/belljar.ts";

const test = base.extend<{ empty: string }>({
  // oxlint-disable-next-line no-empty-pattern -- the fixture needs nothing; the runner wants the pattern
  empty: async ({}, use) => {
    const empty = mkdtempSync(join(tmpdir(), "belljar-empty-"));
    await use(empty);
    rmSync(empty, { recursive: true });
  },
});

describe("exit codes", () => {
  test.for([
    ["nope"],
    ["sandbox", "create", "--memory", "x"],
    ["sandbox"],
    ["sandbox", "cp", "/a", "/b"],
  ])("%j is no command line: 2", async (line) => {
    const { exitCode, stdout, stderr } = await runBelljar(line);
    expect(exitCode).toBe(2);
    expect(stdout).toBe("");
    expect(stderr).not.toMatch(/\n\s+at /);
  });

  test.for([["status"], ["sandbox", "ls"], ["sandbox", "exec", "web", "true"], ["events"]])(
    "%j without a daemon: 3",
    async (line, { empty }) => {
      const { exitCode, stdout, stderr } = await runBelljar(["--data-dir", empty, ...line]);
      expect(exitCode).toBe(3);
      expect(stdout).toBe("");
      expect(stderr).toContain("belljar up");
    },
  );

  test("a daemon that is named and does not answer: 3", async () => {
    // Port 1 of loopback is nobody's.
    const line = ["--url", "http://127.0.0.1:1", "--token", "bj_x", "status"];
    expect((await runBelljar(line)).exitCode).toBe(3);
  });

  test.for([["--help"], ["sandbox", "create", "--help"], ["--version"], []])(
    "%j answers: 0",
    async (line) => {
      const { exitCode, stdout } = await runBelljar(line);
      expect(exitCode).toBe(0);
      expect(stdout).not.toBe("");
    },
  );
});

describe("--json", () => {
  test.for<[string[], string, number]>([
    [["sandbox", "ls", "--nope"], "BAD_REQUEST", 2],
    [["status"], "DAEMON_UNREACHABLE", 3],
    [["--url", "http://127.0.0.1:1", "status"], "UNAUTHENTICATED", 1],
    [["--url", "ftp://x", "--token", "t", "status"], "BAD_REQUEST", 1],
  ])("prints the error envelope of %j", async ([line, code, exitCode], { empty }) => {
    const ran = await runBelljar(["--data-dir", empty, "--json", ...line]);
    expect(ran.exitCode).toBe(exitCode);
    expect(ran.stdout).toBe("");
    expect(errorEnvelopeSchema.parse(JSON.parse(ran.stderr)).error.code).toBe(code);
  });

  test("stop of a daemon that does not run is done already", async ({ empty }) => {
    const ran = await runBelljar(["--data-dir", empty, "--json", "stop"]);
    expect(ran.exitCode).toBe(0);
    expect(JSON.parse(ran.stdout)).toEqual({ stopped: false, pid: null });
  });
});

test("a stored token is sent to the daemon it came from, and to no other", async ({ empty }) => {
  const stored = { url: "http://127.0.0.1:1", token: "bj_stored" };
  writeFileSync(join(empty, "client.json"), JSON.stringify(stored));
  const ask = async (url: string) =>
    errorEnvelopeSchema.parse(
      JSON.parse(
        (await runBelljar(["--data-dir", empty, "--url", url, "--json", "status"])).stderr,
      ),
    ).error.code;
  expect(await ask("http://127.0.0.1:2")).toBe("UNAUTHENTICATED");
  expect(await ask("http://127.0.0.1:1/")).toBe("DAEMON_UNREACHABLE");
});

test.for(["/proc/nope", "/etc/hostname", "/etc/hostname/below", "/dev/null"])(
  "a data directory that cannot be one is refused: %s",
  async (dataDir) => {
    const ran = await runBelljar(["--data-dir", dataDir, "--json", "up", "--detach"]);
    expect(ran.exitCode).toBe(1);
    expect(errorEnvelopeSchema.parse(JSON.parse(ran.stderr)).error.code).toBe("DATA_DIR_UNUSABLE");
  },
);

test("a pid in daemon.json that is another program's is not signalled", async ({ empty }) => {
  writeFileSync(
    join(empty, "daemon.json"),
    JSON.stringify({ pid: process.pid, url: "http://127.0.0.1:1", version: "x" }),
  );
  const ran = await runBelljar(["--data-dir", empty, "--json", "stop", "--force"]);
  expect(JSON.parse(ran.stdout)).toEqual({ stopped: false, pid: null });
});

test("colours and control sequences stay away from pipes", async () => {
  const { stdout, stderr } = await runBelljar(["sandbox"]);
  expect(stdout + stderr).not.toContain("\x1b");
});
