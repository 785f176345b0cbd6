import { lstat, mkdtemp, readdir, readFile, readlink, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { hostPath } from "../kernel/index.ts";
import type { SandboxId } from "../kernel/index.ts";
import { silentLogger } from "../log/index.ts";
import {
  createReal,
  makeDataDir,
  removeDataDir,
  shell,
  startRealDaemon,
} from "../sandbox/testing/real-daemon.ts";
import type { RealDaemon } from "../sandbox/testing/real-daemon.ts";
import { createTemplateService } from "./index.ts";

const fixture: { daemon?: RealDaemon; id?: SandboxId; dataDir?: string } = {};

beforeAll(async () => {
  fixture.dataDir = await makeDataDir();
  fixture.daemon = await startRealDaemon(fixture.dataDir);
  fixture.id = await createReal(fixture.daemon);
});

afterAll(async () => {
  const { daemon, id, dataDir } = fixture;
  if (daemon !== undefined && id !== undefined) await daemon.sandboxes.destroy(id);
  await daemon?.[Symbol.asyncDispose]();
  if (dataDir !== undefined) await removeDataDir(dataDir);
});

async function inside(line: string, user?: string) {
  const { daemon, id } = fixture;
  expect(daemon).toBeDefined();
  if (daemon === undefined || id === undefined) return { code: null, out: "" };
  return await shell(daemon, id, line, user);
}

const WORKS = [
  { line: "id", out: /^uid=1000\(user\) gid=1000\(user\)/ },
  { line: "pwd; echo $HOME", out: /^\/home\/user\n\/home\/user$/ },
  { line: "getent passwd user", out: /^user:x:1000:1000::\/home\/user:\/bin\/(ba)?sh$/ },
  { line: "getent hosts localhost", out: /localhost/ },
  { line: "node -v", out: /^v[0-9]+\./ },
  { line: "awk 'BEGIN { print 6 * 7 }'", out: /^42$/ },
  { line: "TZ=Asia/Kolkata date +%z", out: /^\+0530$/ },
  { line: "date +%Z", out: /^[A-Z+-]/ },
  { line: "locale 2>&1 | head -1", out: /LANG=C.UTF-8/ },
  { line: "openssl verify /etc/ssl/certs/ca-certificates.crt | head -1", out: /: OK$/ },
  { line: "perl -e 'print qq(perl)'", out: /^perl$/ },
  { line: "echo x > /tmp/a && echo y > ~/b && cat /tmp/a ~/b", out: /^x\ny$/ },
  { line: "cat /etc/resolv.conf | wc -c", out: /^0$/ },
  {
    line: "stat -c '%U %a' /home/user /tmp /var/tmp /usr /etc/passwd",
    out: /^user 755\nroot 1777\nroot 1777\nroot 755\nroot 644$/,
  },
];

test.for(WORKS)("inside, `$line` works", async ({ line, out }) => {
  const result = await inside(line);
  expect(result.out).toMatch(out);
  expect(result.code).toBe(0);
});

test("root inside owns its root and may change its /etc", async () => {
  const line =
    "id -u; touch /etc/mine && rm /etc/mine && echo ok; touch /usr/mine 2>/dev/null || echo refused";
  expect((await inside(line, "root")).out).toBe("0\nok\nrefused");
});

test("none of the host's data is visible, not even to root inside", async () => {
  const hidden = [
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/ssh",
    "/etc/ssl/private",
    "/etc/npmrc",
    "/etc/gitconfig",
    "/root/.ssh",
    "/var/lib/dpkg",
    "/run/systemd",
  ];
  const seen = await inside(
    `for path in ${hidden.join(" ")}; do [ -e $path ] && echo $path; done; echo end`,
    "root",
  );
  expect(seen.out).toBe("end");
  const listed = await inside("ls -A /root /var/log /run /home /srv /mnt /media /opt", "root");
  for (const name of await readdir("/root")) expect(listed.out.split("\n")).not.toContain(name);
  expect((await inside("ls /home")).out).toBe("user");
});

test("nobody of the host is named inside", async () => {
  const host = (await readFile("/etc/passwd", "utf8"))
    .split("\n")
    .map((line) => line.split(":")[0]);
  const names = (await inside("cut -d: -f1 /etc/passwd")).out.split("\n");
  expect(names).toEqual(["root", "user", "nobody"]);
  expect(host.length).toBeGreaterThan(names.length);
});

test("an unknown template is TEMPLATE_NOT_FOUND, the known one is listed", async () => {
  const templates = createTemplateService({
    dataDir: hostPath("/nonexistent"),
    logger: silentLogger(),
  });
  await expect(templates.resolve("nope")).rejects.toMatchObject({ code: "TEMPLATE_NOT_FOUND" });
  expect(templates.list().map((template) => template.name)).toEqual(["host"]);
});

test("no copied file is a key, a setuid program or unreadable to others, and no link leaves /usr and /etc", async () => {
  const dataDir = hostPath(await mkdtemp(join(tmpdir(), "belljar-templates-")));
  const { root } = await createTemplateService({ dataDir, logger: silentLogger() }).resolve("host");
  const etc = join(root.layers[0] ?? "", "etc");
  const leaving: string[] = [];
  const special: string[] = [];
  const keys: string[] = [];
  for (const name of await readdir(etc, { recursive: true })) {
    const path = join(etc, name);
    const found = await lstat(path);
    if (found.isSymbolicLink()) {
      if (/^\/(home|root|var|run|opt)\b/.test(await readlink(path))) leaving.push(name);
      continue;
    }
    if (found.isFile() && (found.mode & 0o7000) !== 0) special.push(name);
    if (found.isFile() && (await readFile(path)).includes("PRIVATE KEY-----")) keys.push(name);
  }
  expect({ leaving, special, keys }).toEqual({ leaving: [], special: [], keys: [] });
  await rm(dataDir, { recursive: true, force: true });
});

test("resolving twice at once and again makes one root, and leaves nothing half-made", async () => {
  const dataDir = hostPath(await mkdtemp(join(tmpdir(), "belljar-templates-")));
  const make = () => createTemplateService({ dataDir, logger: silentLogger() }).resolve("host");
  const [first, second] = await Promise.all([make(), make()]);
  expect(second.root).toEqual(first.root);
  const before = await stat(first.root.layers[0] ?? "");
  await make();
  expect((await stat(first.root.layers[0] ?? "")).ino).toBe(before.ino);
  expect(await readdir(join(dataDir, "templates"))).toHaveLength(1);
  await rm(dataDir, { recursive: true, force: true });
});

test("a place that cannot take it is STORAGE_FAILED, and the next try may succeed", async () => {
  const base = await mkdtemp(join(tmpdir(), "belljar-templates-"));
  const place = join(base, "place");
  await writeFile(place, "a file where a folder is wanted");
  const templates = createTemplateService({ dataDir: hostPath(place), logger: silentLogger() });
  await expect(templates.resolve("host")).rejects.toMatchObject({ code: "STORAGE_FAILED" });
  await rm(place);
  expect(await templates.resolve("host")).toMatchObject({ user: "user" });
  await rm(base, { recursive: true, force: true });
});
