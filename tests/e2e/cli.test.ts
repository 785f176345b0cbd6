import { mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import type { Sandbox } from "@belljar/protocol";
import { expect, test as base } from "vitest";
import { type Finished, run } from "./support/child.ts";
import { endProcessesOf, settledLeftovers } from "./support/daemon-process.ts";
import { freePort, REPOSITORY, temporaryDirectory } from "./support/machine.ts";

const BELLJAR = path.join(REPOSITORY, "node_modules", ".bin", "belljar");
const NOTHING = { processes: [], mounts: [], cgroups: [], sockets: [] };

interface Home {
  readonly dataDir: string;
  readonly port: number;
  readonly directory: string;
  belljar(args: readonly string[], input?: string): Promise<Finished>;
  json<Value>(args: readonly string[]): Promise<Value>;
}

/** A data directory with a daemon that `belljar up --detach` started, one for the file. */
const test = base.extend<{ home: Home }>({
  home: [
    // eslint-disable-next-line no-empty-pattern -- vitest reads a fixture's needs from this pattern
    async ({}, use) => {
      using directory = temporaryDirectory("cli");
      const dataDir = path.join(directory.path, "data");
      const port = await freePort();
      const belljar = (args: readonly string[], input?: string) =>
        run([BELLJAR, "--data-dir", dataDir, ...args], {
          ...(input === undefined ? {} : { input }),
          timeoutMs: 60_000,
        });
      const json = async <Value>(args: readonly string[]) => {
        const { code, stdout, stderr } = await belljar([...args, "--json"]);
        if (code !== 0) throw new Error(`belljar ${args.join(" ")} ended with ${code}: ${stderr}`);
        return JSON.parse(stdout) as Value;
      };
      const up = await run(
        [BELLJAR, "up", "--detach", "--json", "--data-dir", dataDir, "--port", String(port)],
        { timeoutMs: 60_000 },
      );
      expect(up.stderr + up.stdout).toContain('"url"');
      await use({ dataDir, port, directory: directory.path, belljar, json });
      const ids = (await json<Sandbox[] | { items: Sandbox[] }>(["sandbox", "ls"]).catch(
        () => [],
      )) as Sandbox[] | { items: Sandbox[] };
      const listed = Array.isArray(ids) ? ids : ids.items;
      for (const { id } of listed) await belljar(["sandbox", "rm", id]);
      const stopped = await belljar(["stop"]);
      const left = await settledLeftovers(
        dataDir,
        listed.map(({ id }) => id),
      );
      await endProcessesOf(dataDir);
      expect(stopped.code).toBe(0);
      expect(left).toEqual(NOTHING);
    },
    { scope: "file" },
  ],
});

test("up --detach --json says where the daemon is, and again when it already runs", async ({
  home,
}) => {
  const again = await home.json<{ url: string; token: string; pid: number }>([
    "up",
    "--detach",
    "--port",
    String(home.port),
  ]);
  expect(again.url).toContain(String(home.port));
  expect(again.token).toMatch(/^bj_/);
  expect(readFileSync(`/proc/${again.pid}/cmdline`, "utf8")).toContain(home.dataDir);
  expect(statSync(path.join(home.dataDir, "client.json")).mode & 0o777).toBe(0o600);
});

test("a sandbox is made, used by its name, and removed", async ({ home }) => {
  const made = await home.json<Sandbox>([
    "sandbox",
    "create",
    "--name",
    "cli-one",
    "--env",
    "GREETING=hello",
    "--memory",
    "256m",
    "--port",
    "8080",
  ]);
  expect(made).toMatchObject({ name: "cli-one", state: "running" });
  const ran = await home.belljar([
    "sandbox",
    "exec",
    "cli-one",
    "--",
    "sh",
    "-c",
    'echo "$GREETING"; echo oops >&2; exit 5',
  ]);
  expect(ran).toMatchObject({ code: 5, stdout: "hello\n" });
  expect(ran.stderr).toContain("oops");
  const piped = await home.belljar(["sandbox", "exec", "cli-one", "--", "wc", "-c"], "12345");
  expect(piped.stdout.trim()).toBe("5");
  expect((await home.belljar(["sandbox", "freeze", "cli-one"])).code).toBe(0);
  expect((await home.json<Sandbox>(["sandbox", "get", "cli-one"])).state).toBe("frozen");
  expect((await home.belljar(["sandbox", "wake", "cli-one"])).code).toBe(0);
  expect((await home.belljar(["sandbox", "stop", "cli-one"])).code).toBe(0);
  expect((await home.belljar(["sandbox", "rm", "cli-one"])).code).toBe(0);
  const gone = await home.belljar(["sandbox", "get", "cli-one"]);
  expect(gone.code).toBe(1);
  expect(gone.stderr).toContain("cli-one");
  expect(gone.stderr).not.toMatch(/\n\s+at /);
});

test("cp carries files and trees both ways and keeps modes", async ({ home }) => {
  await home.json<Sandbox>(["sandbox", "create", "--name", "cli-cp"]);
  const tree = path.join(home.directory, "tree");
  mkdirSync(path.join(tree, "deep"), { recursive: true });
  writeFileSync(path.join(tree, "deep", "run.sh"), "#!/bin/sh\necho ran\n", { mode: 0o755 });
  writeFileSync(path.join(tree, "plain.txt"), "plain", { mode: 0o640 });
  expect((await home.belljar(["sandbox", "cp", tree, "cli-cp:/home/user/tree"])).code).toBe(0);
  expect(
    (await home.belljar(["sandbox", "exec", "cli-cp", "--", "/home/user/tree/deep/run.sh"])).stdout,
  ).toBe("ran\n");
  const back = path.join(home.directory, "back");
  expect((await home.belljar(["sandbox", "cp", "cli-cp:/home/user/tree", back])).code).toBe(0);
  expect(readFileSync(path.join(back, "plain.txt"), "utf8")).toBe("plain");
  expect(statSync(path.join(back, "deep", "run.sh")).mode & 0o777).toBe(0o755);
  const single = path.join(home.directory, "single");
  expect(
    (await home.belljar(["sandbox", "cp", "cli-cp:/home/user/tree/plain.txt", single])).code,
  ).toBe(0);
  expect(readFileSync(single, "utf8")).toBe("plain");
});

test("cp out of a sandbox writes nothing outside its target, whatever the tree holds", async ({
  home,
}) => {
  await home.json<Sandbox>(["sandbox", "create", "--name", "cli-evil"]);
  const secret = path.join(home.directory, "secret");
  writeFileSync(secret, "untouched");
  const plant = `mkdir -p /home/user/evil && cd /home/user/evil && ln -s ${secret} link && ln -s ${home.directory} dir && ln -s / root && echo x > plain`;
  await home.belljar(["sandbox", "exec", "cli-evil", "--", "sh", "-c", plant]);
  const target = path.join(home.directory, "evil-out");
  mkdirSync(target);
  symlinkSync(secret, path.join(target, "plain"));
  await home.belljar(["sandbox", "cp", "cli-evil:/home/user/evil", target]);
  expect(readFileSync(secret, "utf8")).toBe("untouched");
});

test.for([
  { what: "an unknown command", args: ["sandbx"], code: 2 },
  { what: "an unknown option", args: ["sandbox", "ls", "--no-such"], code: 2 },
  { what: "a missing argument", args: ["sandbox", "get"], code: 2 },
  { what: "a port that is none", args: ["sandbox", "create", "--port", "banana"], code: 2 },
  { what: "memory that is none", args: ["sandbox", "create", "--memory", "lots"], code: 2 },
  { what: "a variable without a name", args: ["sandbox", "create", "--env", "=x"], code: 2 },
  {
    what: "a template that does not exist",
    args: ["sandbox", "create", "--template", "no-such"],
    code: 1,
  },
  {
    what: "a sandbox that does not exist",
    args: ["sandbox", "exec", "no-such", "--", "true"],
    code: 1,
  },
])("$what ends with code $code and one readable message", async ({ args, code }, { home }) => {
  const ended = await home.belljar(args);
  expect(ended.code).toBe(code);
  expect(ended.stdout).toBe("");
  expect(ended.stderr.trim()).not.toBe("");
  expect(ended.stderr).not.toMatch(/\n\s+at |node:internal/);
});

test("a daemon that is not there ends commands with code 3", async () => {
  using directory = temporaryDirectory("cli-none");
  const port = await freePort();
  for (const where of [
    ["--data-dir", directory.path],
    ["--url", `http://127.0.0.1:${port}`, "--token", "x"],
  ]) {
    const ended = await run([BELLJAR, "sandbox", "ls", ...where]);
    expect(ended.code).toBe(3);
    expect(ended.stderr).toContain("belljar up");
  }
});

test("a task's output and result come out of the command line", async ({ home }) => {
  await home.json<Sandbox>(["sandbox", "create", "--name", "cli-task"]);
  const ran = await home.belljar([
    "task",
    "run",
    "cli-task",
    "--",
    "sh",
    "-c",
    "echo from the task",
  ]);
  expect(ran.stdout + ran.stderr).toContain("from the task");
  const listed = await home.belljar(["task", "ls", "cli-task", "--json"]);
  expect(listed.stdout).toContain("succeeded");
});

test("a name that is missing in help is missing in life: every command answers --help", async ({
  home,
}) => {
  for (const args of [
    [],
    ["sandbox"],
    ["sandbox", "create"],
    ["task"],
    ["preview"],
    ["token"],
    ["up"],
  ]) {
    const help = await home.belljar([...args, "--help"]);
    expect(help.code).toBe(0);
    expect(help.stdout).toContain("Usage");
  }
});
