import { describe, expect, test } from "vitest";
import { requestOf } from "./actions/sandbox-create.ts";
import { COMMANDS } from "./commands/index.ts";
import { UsageError } from "./failure.ts";
import { type Invocation, parseCommandLine } from "./program.ts";

function parse(line: string[], env: NodeJS.ProcessEnv = {}): Invocation {
  const parsed = parseCommandLine(line, env, "1.2.3");
  if ("exitCode" in parsed) throw new Error(`answered with ${parsed.exitCode}`);
  return parsed;
}

describe("parseCommandLine()", () => {
  test.for<string[]>([
    ["nope"],
    ["sandbox", "nope"],
    ["sandbox", "get"],
    ["sandbox", "get", "a", "b"],
    ["sandbox", "ls", "--nope"],
    ["sandbox", "ls", "--state", "asleep"],
    ["sandbox", "create", "--port", "0"],
    ["sandbox", "create", "--memory"],
    ["up", "--port", "65536"],
    ["completion", "tcsh"],
    ["completion"],
  ])("refuses %j as a usage error", (line) => {
    expect(() => parse(line)).toThrow(UsageError);
  });

  test("takes global options before and after the command's words", () => {
    for (const line of [
      ["--json", "--data-dir", "/d", "sandbox", "ls"],
      ["sandbox", "--json", "ls", "--data-dir", "/d"],
    ]) {
      expect(parse(line).globals).toEqual({
        json: true,
        dataDir: "/d",
        url: undefined,
        token: undefined,
      });
    }
  });

  test("takes URL, token and data directory from the environment, and flags before it", () => {
    const env = { BELLJAR_URL: "http://e", BELLJAR_TOKEN: "t", BELLJAR_DATA_DIR: "" };
    expect(parse(["status"], env).globals).toMatchObject({
      url: "http://e",
      token: "t",
      dataDir: undefined,
    });
    expect(parse(["status", "--url", "http://f"], env).globals).toMatchObject({ url: "http://f" });
  });

  test("leaves everything after the sandbox to the command", () => {
    const { input, globals } = parse([
      "sandbox",
      "exec",
      "--user",
      "root",
      "web",
      "ls",
      "--json",
      "-la",
    ]);
    expect(input.texts("command")).toEqual(["ls", "--json", "-la"]);
    expect(input.text("user")).toBe("root");
    expect(globals.json).toBe(false);
  });

  test("lets a double dash end the options", () => {
    expect(parse(["sandbox", "exec", "web", "--", "-x"]).input.texts("command")).toEqual(["-x"]);
    expect(parse(["sandbox", "exec", "--", "web", "-x"]).input.texts("command")).toEqual(["-x"]);
  });
});

describe("requestOf()", () => {
  const request = (...line: string[]) => requestOf(parse(["sandbox", "create", ...line]).input);

  test("asks for nothing that was not asked for", () => {
    expect(request()).toEqual({});
  });

  test("makes a full request", () => {
    const line =
      "--name web -p 3000 -p 80:public -e A=1 -e B=2=3 -l team=x --memory 512m --cpus 0.5 --pids 64 --disk none --idle never --life 8h --on-idle stop --degrade --level strict".split(
        " ",
      );
    expect(request(...line, "--start", "npm run dev", "--start-cwd", "/app")).toEqual({
      name: "web",
      level: "strict",
      onUnsupported: "degrade",
      env: { A: "1", B: "2=3" },
      metadata: { team: "x" },
      ports: [{ port: 3000 }, { port: 80, visibility: "public" }],
      limits: { memoryBytes: 536_870_912, cpuCount: 0.5, processCountMax: 64, diskBytes: null },
      timeouts: { idleMs: null, lifeMs: 28_800_000, onIdle: "stop" },
      start: { command: ["/bin/sh", "-c", "npm run dev"], cwd: "/app" },
    });
  });

  test("refuses a start command's options without one", () => {
    expect(() => request("--start-cwd", "/app")).toThrow(UsageError);
  });
});

describe("the command table", () => {
  test.for(COMMANDS.map((spec) => [spec.path.join(" "), spec] as const))(
    "%s has an action and an example",
    async ([, spec]) => {
      expect(await spec.load()).toBeTypeOf("function");
      expect(spec.examples?.length).toBeGreaterThan(0);
    },
  );

  test("every example that names belljar alone is a command line", () => {
    const lines = COMMANDS.flatMap((spec) => spec.examples ?? []).filter((line) =>
      /^belljar [^|>']*$/.test(line),
    );
    expect(lines.length).toBeGreaterThan(20);
    for (const line of lines) expect(() => parse(line.split(" ").slice(1)), line).not.toThrow();
  });
});
