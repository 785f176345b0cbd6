import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { BelljarError } from "@belljar/protocol";
import { afterAll, describe, expect, test } from "vitest";
import { parseArgv } from "./argv.ts";
import { configReference, showConfig } from "./describe.ts";
import { configKeys } from "./keys.ts";
import type { ConfigSources } from "./load.ts";
import { loadConfig } from "./load.ts";
import { Secret } from "./secret.ts";

const directory = mkdtempSync(join(tmpdir(), "belljar-config-"));
afterAll(() => rmSync(directory, { recursive: true }));

function load(
  parts: {
    flags?: [string, string][];
    env?: Record<string, string>;
    yaml?: string;
  } & Partial<ConfigSources>,
) {
  const { yaml, ...rest } = parts;
  const file = join(directory, "config.yaml");
  if (yaml !== undefined) writeFileSync(file, yaml);
  return loadConfig({
    flags: [],
    env: {},
    cwd: "/srv",
    isRoot: true,
    ...(yaml === undefined ? {} : { file }),
    ...rest,
  });
}

function problems(parts: Parameters<typeof load>[0]): string {
  try {
    load(parts);
  } catch (error) {
    if (BelljarError.is(error, "CONFIG_INVALID")) return error.message;
    throw error;
  }
  return "";
}

describe("precedence", () => {
  const yaml = "server:\n  port: 1\n  host: file.example\n  drainMs: 3\n";
  test("flags win over the environment, that over the file, that over the defaults", () => {
    const { config, origins } = load({
      yaml,
      env: { BELLJAR_SERVER__PORT: "2", BELLJAR_SERVER__HOST: "env.example" },
      flags: [["server.port", "3"]],
    });
    expect(config.server).toMatchObject({
      port: 3,
      host: "env.example",
      drainMs: 3,
      publicUrl: null,
    });
    const { port, host } = { port: origins.get("server.port"), host: origins.get("server.host") };
    expect([port, host, origins.get("server.drainMs"), origins.get("log.level")]).toEqual([
      "flag",
      "env",
      "file",
      "default",
    ]);
  });

  test("the defaults are complete, and the data directory follows the user", () => {
    expect(load({}).config).toMatchObject({
      dataDir: "/var/lib/belljar",
      server: { host: "127.0.0.1", port: 7070 },
      previews: { domain: "localhost" },
      sandboxes: { defaults: { idleMs: 2_100_000, onIdle: "freeze" } },
    });
    expect(load({ isRoot: false, env: { HOME: "/home/a" } }).config.dataDir).toBe(
      "/home/a/.local/share/belljar",
    );
    expect(load({ flags: [["dataDir", "d"]] }).config.dataDir).toBe("/srv/d");
  });

  test("every key has a description, and its environment name is its path", () => {
    const keys = configKeys();
    expect(keys.filter(({ description }) => description === "")).toEqual([]);
    expect(keys.find(({ key }) => key === "server.publicUrl")?.env).toBe(
      "BELLJAR_SERVER__PUBLIC_URL",
    );
    expect(new Set(keys.map(({ env }) => env)).size).toBe(keys.length);
    expect(configReference()).toContain("`sandboxes.defaults.memoryBytes`");
  });
});

describe("problems", () => {
  const rows: [string, Parameters<typeof load>[0], string][] = [
    [
      "an unknown flag",
      { flags: [["server.prot", "1"]] },
      "--server.prot: names no configuration key",
    ],
    [
      "an unknown variable",
      { env: { BELLJAR_SERVER__PROT: "1" } },
      "BELLJAR_SERVER__PROT: names no configuration key",
    ],
    [
      "a flag given twice",
      {
        flags: [
          ["server.port", "1"],
          ["server.port", "2"],
        ],
      },
      "--server.port: is given twice",
    ],
    [
      "a number that is none",
      { env: { BELLJAR_SERVER__PORT: "70x" } },
      'BELLJAR_SERVER__PORT: must be a number, got "70x"',
    ],
    ["a number out of range", { flags: [["server.port", "70000"]] }, "got 70000"],
    ["a number that is text", { yaml: 'server:\n  port: "7070"\n' }, "config.yaml:2: server.port"],
    [
      "an unknown key in the file, with its line",
      { yaml: "server:\n  port: 1\n  prot: 2\n" },
      "config.yaml:3: server.prot: names no",
    ],
    ["an unknown section", { yaml: "sever:\n  port: 1\n" }, "sever: names no"],
    ["a key twice in the file", { yaml: "server:\n  port: 1\n  port: 2\n" }, "unique"],
    ["a file that is a list", { yaml: "- a\n" }, "must be a mapping"],
    ["__proto__ in the file", { yaml: "__proto__:\n  dataDir: /x\n" }, "__proto__"],
    ["a file that is missing", { file: "/nonexistent/c.yaml" }, "/nonexistent/c.yaml"],
    ["a relative socket", { flags: [["warden.socket", "a.sock"]] }, "must be an absolute path"],
    [
      "half a pair",
      {
        flags: [
          ["storage.pool", "directory"],
          ["storage.imageBytes", "1073741824"],
        ],
      },
      "storage.imageBytes",
    ],
    [
      "a template without a port",
      { flags: [["previews.publicUrlTemplate", "https://{id}.x.org"]] },
      "previews.publicUrlTemplate",
    ],
    [
      "an origin with a path",
      { flags: [["server.allowedOrigins", "https://a.org/x"]] },
      "must be an origin",
    ],
    ["a domain in upper case", { flags: [["previews.domain", "Example.org"]] }, "domain name"],
  ];
  test.for(rows)("%s is refused", ([, parts, expected]) => {
    expect(problems(parts)).toContain(expected);
  });

  test("all are named at once, and what belongs to the CLI is none", () => {
    const text = problems({
      flags: [
        ["a.b", "1"],
        ["server.port", "x"],
      ],
      env: { BELLJAR_NOPE: "1", BELLJAR_TOKEN: "t" },
    });
    expect(text.split("\n")).toHaveLength(4);
    expect(
      problems({ env: { BELLJAR_TOKEN: "t", BELLJAR_URL: "u", BELLJAR_MUST_SANDBOX: "1" } }),
    ).toBe("");
  });

  test("the neighbours of what is refused are taken", () => {
    const { config } = load({
      flags: [
        ["previews.publicUrlTemplate", "https://{port}-{id}.x.org"],
        ["server.allowedOrigins", "https://a.org,http://b.org:8080"],
        ["server.port", "0"],
        ["sandboxes.defaults.idleMs", "null"],
      ],
    });
    expect(config.server.allowedOrigins).toEqual(["https://a.org", "http://b.org:8080"]);
    expect(config.sandboxes.defaults.idleMs).toBeNull();
  });
});

describe("secrets", () => {
  test("tokens are apart from the configuration and are never shown", () => {
    const loaded = load({ env: { BELLJAR_AUTH__TOKENS: "ci:hunter2" } });
    expect(JSON.stringify(loaded.config)).not.toContain("hunter2");
    expect(loaded.secrets.tokens[0]?.expose()).toBe("ci:hunter2");
    const shown = showConfig(loaded);
    expect(shown.find(({ key }) => key === "auth.tokens")).toEqual({
      key: "auth.tokens",
      value: ["[secret]"],
      origin: "env",
    });
    expect(
      inspect(loaded, { depth: 9 }) + JSON.stringify(shown) + JSON.stringify(loaded.secrets),
    ).not.toContain("hunter2");
    expect(problems({ env: { BELLJAR_AUTH__TOKENS: `ci:${"h".repeat(600)}` } })).not.toContain(
      "hhhh",
    );
  });

  test("a Secret shows itself by no usual way", () => {
    const secret = new Secret("x9");
    expect(`${String(secret)} ${JSON.stringify({ secret })} ${inspect(secret)}`).toBe(
      '[secret] {"secret":"[secret]"} [secret]',
    );
    expect(secret.expose()).toBe("x9");
  });
});

describe("argv", () => {
  test("aliases, values after = and a switch are read", () => {
    expect(
      parseArgv([
        "--port=1",
        "--data-dir",
        "d",
        "--log.level",
        "debug",
        "--ready-json",
        "--config",
        "c",
      ]),
    ).toEqual({
      flags: [
        ["server.port", "1"],
        ["dataDir", "d"],
        ["log.level", "debug"],
      ],
      configFile: "c",
      isReadyJson: true,
      action: "serve",
    });
  });
  test.for([["x"], ["-p"], ["--port"], ["--"]])("%s is refused", (argv) => {
    expect(() => parseArgv(argv)).toThrow(BelljarError);
  });
});
