import { spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  daemonEventSchema,
  errorEnvelopeSchema,
  execResultSchema,
  linkListSchema,
  linkSchema,
  openedPreviewSchema,
  previewListSchema,
  sandboxPageSchema,
  sandboxSchema,
  statusSchema,
  taskEventSchema,
  taskPageSchema,
  taskSchema,
  tokenListSchema,
  tokenSchema,
} from "@belljar/protocol";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { BELLJAR, type Ran, type RunOptions, runBelljar } from "./testing/belljar.ts";

/** The real daemon with real sandboxes, driven through the command alone. */
const place = mkdtempSync(join(tmpdir(), "belljar-cli-"));
const dataDir = join(place, "data");
const started: { url?: string; token?: string; pid?: number } = {};

const run = (line: readonly string[], options?: RunOptions): Promise<Ran> =>
  runBelljar(["--data-dir", dataDir, ...line], options);

/** Runs with `--json`: one document of the schema on standard output, and nothing for people. */
async function json<Value>(
  schema: { parse(value: unknown): Value },
  line: readonly string[],
): Promise<Value> {
  const { exitCode, stdout, stderr } = await run(["--json", ...line]);
  expect({ exitCode, stderr }, line.join(" ")).toEqual({ exitCode: 0, stderr: "" });
  expect(stdout.trimEnd().split("\n")).toHaveLength(1);
  return schema.parse(JSON.parse(stdout));
}

beforeAll(async () => {
  const { exitCode, stdout, stderr } = await run(["--json", "up", "--detach", "--port", "0"]);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  Object.assign(started, JSON.parse(stdout));
  const made = await run([
    "sandbox",
    "create",
    "--name",
    "web",
    "--port",
    "3000",
    "--metadata",
    "team=cli",
  ]);
  expect(made).toMatchObject({
    exitCode: 0,
    stdout: expect.stringMatching(/^[a-z][a-z0-9]{19}\n$/),
  });
});

afterAll(async () => {
  const list = await run(["sandbox", "ls", "--quiet"]);
  for (const id of list.stdout.split("\n").filter(Boolean)) await run(["sandbox", "rm", id]);
  expect((await run(["stop", "--sandboxes"])).exitCode).toBe(0);
  expect((await run(["status"])).exitCode).toBe(3);
  rmSync(place, { recursive: true, force: true });
});

describe("up", () => {
  test("prints URL, token and pid, and keeps them for this user alone", () => {
    expect(started).toEqual({
      url: expect.stringMatching(/^http:/),
      token: expect.stringMatching(/^bj_/),
      pid: expect.any(Number),
    });
    expect(statSync(join(dataDir, "client.json")).mode & 0o777).toBe(0o600);
    expect(JSON.parse(readFileSync(join(dataDir, "client.json"), "utf8"))).toEqual({
      url: started.url,
      token: started.token,
    });
  });

  test("with --detach does nothing where a daemon runs already", async () => {
    const again = await run(["--json", "up", "--detach"]);
    expect(JSON.parse(again.stdout)).toEqual(started);
  });

  test("in the foreground refuses a data directory that is in use", async () => {
    const { exitCode, stderr } = await run(["--json", "up"]);
    expect(exitCode).toBe(1);
    expect(errorEnvelopeSchema.parse(JSON.parse(stderr)).error.code).toBe("DATA_DIR_IN_USE");
  });

  test("names the port that is taken", async () => {
    const port = new URL(started.url ?? "").port;
    const { exitCode, stderr } = await runBelljar([
      "--data-dir",
      join(place, "other"),
      "--json",
      "up",
      "--detach",
      "--port",
      port,
    ]);
    expect(exitCode).toBe(1);
    expect(errorEnvelopeSchema.parse(JSON.parse(stderr)).error.code).toBe("PORT_TAKEN");
  });

  test("the token is in no log and no list of processes", () => {
    expect(readFileSync(join(dataDir, "daemon.log"), "utf8")).not.toContain(started.token);
    expect(readFileSync(`/proc/${started.pid}/cmdline`, "utf8")).not.toContain(started.token);
  });

  test("in the foreground serves until TERM, and ends well", async () => {
    const own = join(place, "foreground");
    const child = spawn(BELLJAR, ["--data-dir", own, "--json", "up", "--port", "0"], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    const ended = new Promise((resolve) => child.once("close", (...how) => resolve(how)));
    const line = await new Promise<string>((resolve) =>
      child.stdout.once("data", (data: Buffer) => resolve(data.toString())),
    );
    expect(JSON.parse(line)).toMatchObject({
      url: expect.stringMatching(/^http:/),
      token: expect.stringMatching(/^bj_/),
    });
    expect((await runBelljar(["--data-dir", own, "status"])).exitCode).toBe(0);
    child.kill("SIGTERM");
    expect(await ended).toEqual([0, null]);
    expect((await runBelljar(["--data-dir", own, "status"])).exitCode).toBe(3);
  });
});

test("up in the foreground stops the daemon in good order when its terminal closes", async () => {
  const own = join(place, "terminal");
  const line = `${BELLJAR} --data-dir ${own} up --port 0`;
  const terminal = spawn("script", ["-qec", line, "/dev/null"], {
    stdio: ["pipe", "ignore", "ignore"],
  });
  const serves = async () => (await runBelljar(["--data-dir", own, "status"])).exitCode;
  await expect.poll(serves, { timeout: 20_000 }).toBe(0);
  terminal.kill("SIGKILL");
  await expect.poll(serves, { timeout: 20_000 }).toBe(3);
  await expect
    .poll(() => readFileSync(join(own, "daemon.log"), "utf8"), { timeout: 20_000 })
    .toContain("daemon.stop");
});

test("stop lets sandboxes go on for the next start, and ends them with --sandboxes", async () => {
  const own = join(place, "stops");
  const act = (...line: string[]) => runBelljar(["--data-dir", own, ...line]);
  const stateOf = async () =>
    sandboxSchema.parse(JSON.parse((await act("sandbox", "get", "kept", "--json")).stdout)).state;
  await act("up", "--detach", "--port", "0");
  await act("sandbox", "create", "--name", "kept");
  await act("sandbox", "exec", "kept", "sh", "-c", "echo alive > /tmp/memory");
  expect((await act("stop")).exitCode).toBe(0);
  await act("up", "--detach", "--port", "0");
  expect((await act("sandbox", "exec", "kept", "cat", "/tmp/memory")).stdout).toBe("alive\n");
  expect((await act("stop", "--sandboxes")).exitCode).toBe(0);
  await act("up", "--detach", "--port", "0");
  expect(await stateOf()).toBe("stopped");
  await act("sandbox", "rm", "kept");
  expect((await act("stop")).exitCode).toBe(0);
});

describe("--json prints the protocol's types", () => {
  test("status", () => json(statusSchema, ["status"]));
  test("sandbox ls", async () => {
    expect(
      (await json(sandboxPageSchema, ["sandbox", "ls", "--metadata", "team=cli"])).items,
    ).toHaveLength(1);
    expect(
      (await json(sandboxPageSchema, ["sandbox", "ls", "--metadata", "team=other"])).items,
    ).toHaveLength(0);
  });
  test("sandbox get, by name and by id", async () => {
    const byName = await json(sandboxSchema, ["sandbox", "get", "web"]);
    const byId = await json(sandboxSchema, ["sandbox", "get", byName.id]);
    expect(byId.id).toBe(byName.id);
  });
  test("sandbox create and rm", async () => {
    const made = await json(sandboxSchema, [
      "sandbox",
      "create",
      "--memory",
      "128m",
      "--env",
      "A=b",
    ]);
    expect(made.limits.memoryBytes).toBe(128 * 1024 * 1024);
    const shown = await run(["sandbox", "exec", made.id, "sh", "-c", "echo $A"]);
    expect(shown.stdout).toBe("b\n");
    expect((await run(["sandbox", "rm", made.id])).exitCode).toBe(0);
    expect((await run(["sandbox", "get", made.id])).exitCode).toBe(1);
  });
  test("config show, with secrets masked", async () => {
    const { exitCode, stdout } = await run(["--json", "config", "show"]);
    expect(exitCode).toBe(0);
    expect(JSON.parse(stdout)).toContainEqual({ key: "dataDir", value: dataDir, origin: "flag" });
  });
  test("errors, as the envelope, on standard error", async () => {
    const { exitCode, stdout, stderr } = await run(["--json", "sandbox", "get", "nobody"]);
    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: "" });
    expect(errorEnvelopeSchema.parse(JSON.parse(stderr)).error.code).toBe("SANDBOX_NOT_FOUND");
  });
});

describe("sandbox exec", () => {
  test("keeps the two streams apart and passes the exit code on", async () => {
    const ran = await run(["sandbox", "exec", "web", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    expect(ran).toEqual({ exitCode: 7, stdout: "out\n", stderr: "err\n" });
  });

  test("passes standard input on, byte for byte", async () => {
    const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, index) => (index * 7) % 256));
    const { stdout } = await run(["sandbox", "exec", "web", "sha256sum"], { stdin: bytes });
    expect(stdout).toBe(spawnSync("sha256sum", { input: bytes, encoding: "utf8" }).stdout);
  });

  test("does not wait for input that the command does not read", async () => {
    expect(
      await run(["sandbox", "exec", "web", "true"], { stdin: "x".repeat(1_000_000) }),
    ).toMatchObject({ exitCode: 0 });
  });

  test.for<[string[], number]>([
    [["sh", "-c", "kill -KILL $$"], 137],
    [["sh", "-c", "kill -TERM $$"], 143],
    [["false"], 1],
  ])("%j ends with %d", async ([command, exitCode]) => {
    expect((await run(["sandbox", "exec", "web", ...command])).exitCode).toBe(exitCode);
  });

  test("ends a command that runs out of time with 124", async () => {
    expect(
      (await run(["sandbox", "exec", "--timeout", "200ms", "web", "sleep", "60"])).exitCode,
    ).toBe(124);
  });

  test.for<[string[], string[], string]>([
    [[], ["no-such-program"], "EXEC_NOT_FOUND"],
    [["--cwd", "/no/such"], ["true"], "EXEC_CWD"],
    [["--user", "nobody-here"], ["true"], "EXEC_USER_UNKNOWN"],
  ])("%j %j is refused with its reason", async ([options, command, code]) => {
    const { exitCode, stderr } = await run([
      "--json",
      "sandbox",
      "exec",
      ...options,
      "web",
      ...command,
    ]);
    expect(exitCode).toBe(1);
    expect(errorEnvelopeSchema.parse(JSON.parse(stderr)).error.code).toBe(code);
  });

  test("with --json collects the output and still passes the exit code on", async () => {
    const ran = await run(["--json", "sandbox", "exec", "web", "sh", "-c", "echo out; exit 3"]);
    expect(ran.exitCode).toBe(3);
    expect(execResultSchema.parse(JSON.parse(ran.stdout))).toMatchObject({
      stdout: "out\n",
      stderr: "",
      exitCode: 3,
    });
  });

  test("gives a terminal with --tty", async () => {
    const { stdout } = await run([
      "sandbox",
      "exec",
      "--tty",
      "web",
      "sh",
      "-c",
      "test -t 1 && echo terminal",
    ]);
    expect(stdout).toContain("terminal");
  });

  test("brings a large output through a slow reader whole", () => {
    const line = `${BELLJAR} --data-dir ${dataDir} sandbox exec web head -c 80000000 /dev/zero | (sleep 1; wc -c)`;
    expect(spawnSync("bash", ["-c", line], { encoding: "utf8" }).stdout.trim()).toBe("80000000");
  });

  test("ends quietly when its reader has seen enough", () => {
    const line = `set -o pipefail; ${BELLJAR} --data-dir ${dataDir} sandbox exec web yes | head -1`;
    expect(spawnSync("bash", ["-c", line], { encoding: "utf8" })).toMatchObject({
      stdout: "y\n",
      stderr: "",
    });
  });
});

describe("sandbox shell", () => {
  /** Types into the command on a terminal of its own and gives what that terminal showed. */
  function typeInto(command: string, input: string): string {
    const line = `stty rows 33 cols 101; ${command}; stty -a | grep -o -- '-\\?icanon'; stty -a | grep -o -- ' -\\?echo '`;
    return spawnSync("script", ["-qec", line, "/dev/null"], {
      input,
      encoding: "utf8",
      timeout: 30_000,
    }).stdout;
  }

  test("is interactive, knows the terminal's size, passes the exit code and gives the terminal back", () => {
    const shown = typeInto(
      `${BELLJAR} --data-dir ${dataDir} sandbox shell web; echo ended=$?`,
      "stty size\rexit 5\r",
    );
    expect(shown).toContain("33 101");
    expect(shown).toContain("ended=5");
    expect(shown).toMatch(/(^|\s)icanon/m);
    expect(shown).toMatch(/ echo /);
  });

  test("gives the terminal back when it is ended by a signal", () => {
    const shown = typeInto(
      `${BELLJAR} --data-dir ${dataDir} sandbox shell web & sleep 2; kill -TERM $!; wait $!`,
      "",
    );
    expect(shown).toMatch(/(^|\s)icanon/m);
  });

  test("needs a terminal", async () => {
    expect((await run(["sandbox", "shell", "web"])).exitCode).toBe(2);
  });
});

describe("sandbox cp", () => {
  function makeTree(): string {
    const tree = join(mkdtempSync(join(place, "tree-")), "site");
    mkdirSync(join(tree, "sub/empty"), { recursive: true });
    writeFileSync(join(tree, "run.sh"), "#!/bin/sh\necho hi\n");
    chmodSync(join(tree, "run.sh"), 0o750);
    writeFileSync(join(tree, "sub/big"), Buffer.alloc(3_000_000, 7));
    writeFileSync(join(tree, `${"long-".repeat(40)}name`), "x");
    symlinkSync("../run.sh", join(tree, "sub/link"));
    return tree;
  }

  test("brings a directory in and out again: content, modes, links, empty directories", async () => {
    const tree = makeTree();
    const back = join(place, "back");
    expect((await run(["sandbox", "cp", tree, "web:/home/user/site"])).exitCode).toBe(0);
    const owner = await run([
      "sandbox",
      "exec",
      "web",
      "stat",
      "-c",
      "%U %a",
      "/home/user/site/run.sh",
    ]);
    expect(owner.stdout).toBe("user 750\n");
    expect((await run(["sandbox", "cp", "web:/home/user/site", back])).exitCode).toBe(0);
    expect(
      spawnSync("diff", ["-r", "--no-dereference", tree, back], { encoding: "utf8" }),
    ).toMatchObject({ status: 0, stdout: "" });
    expect(statSync(join(back, "run.sh")).mode & 0o777).toBe(0o750);
    expect(readlinkSync(join(back, "sub/link"))).toBe("../run.sh");
    expect(existsSync(join(back, "sub/empty"))).toBe(true);
  });

  test("puts a source into a target that is a directory, and only what is in it with /.", async () => {
    const tree = makeTree();
    await run(["sandbox", "exec", "web", "mkdir", "-p", "/home/user/into"]);
    expect((await run(["sandbox", "cp", tree, "web:/home/user/into"])).exitCode).toBe(0);
    expect((await run(["sandbox", "cp", `${tree}/.`, "web:/home/user/into"])).exitCode).toBe(0);
    const { stdout } = await run(["sandbox", "exec", "web", "ls", "/home/user/into"]);
    expect(stdout.split("\n")).toEqual(expect.arrayContaining(["run.sh", "site", "sub"]));
  });

  test("brings one file in and out, into a directory too", async () => {
    const file = join(place, "one.bin");
    writeFileSync(file, Buffer.alloc(1_000_000, 3), { mode: 0o640 });
    expect((await run(["sandbox", "cp", file, "web:/home/user"])).exitCode).toBe(0);
    const summary = await run([
      "--json",
      "sandbox",
      "cp",
      "web:/home/user/one.bin",
      join(place, "two.bin"),
    ]);
    expect(JSON.parse(summary.stdout)).toMatchObject({
      fileCount: 1,
      byteCount: 1_000_000,
      refused: [],
    });
    expect(readFileSync(join(place, "two.bin")).equals(readFileSync(file))).toBe(true);
    expect(statSync(join(place, "two.bin")).mode & 0o777).toBe(0o640);
  });

  test("brings no link out that leads out of the target, and says so", async () => {
    await run([
      "sandbox",
      "exec",
      "web",
      "sh",
      "-c",
      "mkdir -p ~/trap && cd ~/trap && ln -sf /etc/passwd a && ln -sf ../../.. b && echo kept > c",
    ]);
    const ran = await run(["sandbox", "cp", "web:/home/user/trap", join(place, "trap")]);
    expect(ran.exitCode).toBe(1);
    expect(ran.stderr).toContain("leads out of the target");
    expect(existsSync(join(place, "trap/c"))).toBe(true);
    expect(existsSync(join(place, "trap/a"))).toBe(false);
  });

  test("does not believe a tar that the sandbox has replaced", async () => {
    const fake =
      "mkdir -p ~/bin ~/src && printf '#!/bin/sh\\ncat ~/evil.tar\\n' > ~/bin/tar && chmod +x ~/bin/tar";
    await run([
      "sandbox",
      "exec",
      "web",
      "sh",
      "-c",
      `${fake} && cd /tmp && echo x > escaped && tar -P -cf ~/evil.tar ../../../../../../../../tmp/escaped`,
    ]);
    const stolen = await run([
      "sandbox",
      "exec",
      "web",
      "sh",
      "-c",
      "cat ~/evil.tar | tar -t -P -f -",
    ]);
    expect(stolen.stdout).toContain("../");
    // Whatever PATH finds inside, what it sends is judged here; the built-in one is found first, so both outcomes are safe.
    const ran = await run(["sandbox", "cp", "web:/home/user/src", join(place, "src")]);
    expect([0, 1]).toContain(ran.exitCode);
    expect(existsSync("/tmp/escaped")).toBe(false);
  });

  test.for<[string, string, number]>([
    ["/no/such/file", "web:/tmp", 1],
    ["web:/no/such/file", "/tmp/belljar-none", 1],
    ["/etc/hostname", "web:/etc/passwd/x", 1],
    ["web:/tmp", "web:/tmp", 2],
  ])("%s to %s ends with %d", async ([source, target, exitCode]) => {
    expect((await run(["sandbox", "cp", source, target])).exitCode).toBe(exitCode);
  });
});

describe("rest and waking", () => {
  test("freeze, wake, stop, and a command that wakes by itself", async () => {
    expect((await json(sandboxSchema, ["sandbox", "freeze", "web"])).state).toBe("frozen");
    expect((await json(sandboxSchema, ["sandbox", "wake", "web"])).state).toBe("running");
    await run(["sandbox", "exec", "web", "sh", "-c", "echo kept > ~/kept"]);
    expect((await json(sandboxSchema, ["sandbox", "stop", "web"])).state).toBe("stopped");
    expect((await run(["sandbox", "exec", "web", "cat", "/home/user/kept"])).stdout).toBe("kept\n");
  });

  test("one that fails does not keep the others from their turn", async () => {
    const { exitCode, stderr } = await run(["sandbox", "wake", "nobody", "web"]);
    expect(exitCode).toBe(1);
    expect(stderr).toContain("nobody");
    expect(stderr).toContain("web running");
  });
});

describe("task", () => {
  test("run follows the output and ends with the task's exit code", async () => {
    const ran = await run(["task", "run", "web", "sh", "-c", "echo out; echo err >&2; exit 4"]);
    expect(ran).toMatchObject({ exitCode: 4, stdout: "out\n" });
    expect(ran.stderr).toContain("err\n");
  });

  test("run --detach, get, logs, ls and cancel", async () => {
    const task = await json(taskSchema, [
      "task",
      "run",
      "--detach",
      "web",
      "sh",
      "-c",
      "echo going; sleep 60",
    ]);
    expect((await json(taskSchema, ["task", "get", task.id])).id).toBe(task.id);
    await expect
      .poll(async () => (await run(["task", "logs", task.id])).stdout, { timeout: 10_000 })
      .toBe("going\n");
    expect(
      (await json(taskPageSchema, ["task", "ls", "web"])).items.map((each) => each.id),
    ).toContain(task.id);
    expect((await run(["task", "cancel", task.id])).exitCode).toBe(0);
    await expect
      .poll(async () => (await json(taskSchema, ["task", "get", task.id])).state, {
        timeout: 10_000,
      })
      .toBe("cancelled");
    const events = await run(["--json", "task", "logs", task.id]);
    const parsed = events.stdout
      .trimEnd()
      .split("\n")
      .map((line) => taskEventSchema.parse(JSON.parse(line)));
    expect(parsed.at(-1)?.type).toBe("done");
  });
});

describe("preview", () => {
  test("open, share, links, unshare, ls and close", async () => {
    expect((await json(openedPreviewSchema, ["preview", "open", "web", "3000"])).url).toContain(
      "#",
    );
    const link = await json(linkSchema, ["preview", "share", "web", "3000", "--expires", "1h"]);
    expect(link.url).toMatch(/^http/);
    expect(
      (await json(linkListSchema, ["preview", "links", "web", "3000"])).items.map(
        (each) => each.id,
      ),
    ).toContain(link.id);
    expect((await run(["preview", "unshare", "web", "3000", link.id])).exitCode).toBe(0);
    expect((await json(previewListSchema, ["preview", "ls", "web"])).items).toMatchObject([
      { port: 3000, visibility: "link" },
    ]);
    expect((await run(["preview", "close", "web", "3000"])).exitCode).toBe(0);
    expect((await json(previewListSchema, ["preview", "ls", "web"])).items).toEqual([]);
  });

  test("open makes a preview of a port that has none", async () => {
    expect((await run(["preview", "open", "web", "8080", "--visibility", "public"])).exitCode).toBe(
      0,
    );
    expect((await json(previewListSchema, ["preview", "ls", "web"])).items).toMatchObject([
      { port: 8080, visibility: "public" },
    ]);
  });
});

describe("token", () => {
  test("create, ls and rm; a token does what its scope says and ends when revoked", async () => {
    const token = await json(tokenSchema, [
      "token",
      "create",
      "ci",
      "--scope",
      "read",
      "--expires",
      "1h",
    ]);
    const asCi = (line: string[]) => run(["--token", token.token ?? "", ...line]);
    expect((await asCi(["sandbox", "ls"])).exitCode).toBe(0);
    expect((await asCi(["sandbox", "create"])).exitCode).toBe(1);
    expect((await json(tokenListSchema, ["token", "ls"])).items.map((each) => each.name)).toContain(
      "ci",
    );
    expect((await run(["token", "rm", "ci"])).exitCode).toBe(0);
    expect((await asCi(["sandbox", "ls"])).exitCode).toBe(1);
  });
});

describe("logs and events", () => {
  test("logs prints the daemon's log, and a start command's output", async () => {
    expect((await run(["logs", "--lines", "5"])).stdout).not.toBe("");
    await run(["sandbox", "create", "--name", "talker", "--start", "echo started; sleep 60"]);
    await expect
      .poll(async () => (await run(["logs", "talker"])).stdout, { timeout: 10_000 })
      .toContain("started");
  });

  test("events go on from an id, one object a line", async () => {
    const child = spawn(BELLJAR, ["--data-dir", dataDir, "--json", "events", "--since", "0"], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    const first = await new Promise<string>((resolve) =>
      child.stdout.once("data", (data: Buffer) => resolve(data.toString())),
    );
    child.kill("SIGINT");
    expect(daemonEventSchema.parse(JSON.parse(first.split("\n")[0] ?? "")).id).toBeGreaterThan(0);
    expect(await new Promise((resolve) => child.once("close", resolve))).toBe(130);
  });
});
