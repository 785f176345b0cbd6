import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, rmdirSync, rmSync } from "node:fs";
import http from "node:http";
import path from "node:path";
import { type Child, run, startChild } from "../../tests/e2e/support/child.ts";
import { findProgram, temporaryDirectory, until } from "../../tests/e2e/support/machine.ts";

const IMAGE = "belljar-bench:1";
const CGROUP_ROOT = "/sys/fs/cgroup";
const READY_TIMEOUT_MS = 30_000;

/** A Docker of our own: private socket, data root and cgroup parent, no bridge, no iptables rule. */
export interface Docker extends AsyncDisposable {
  /** The `docker` command with its socket, ready for arguments */
  readonly command: readonly string[];
  /** `docker run --rm --network none … argv`, as a person types it */
  run(argv: readonly string[]): Promise<void>;
  /** The same without the command line: create, start, wait over the socket; removes it unmeasured */
  runByApi(argv: readonly string[]): Promise<number>;
  /** Starts a container that sleeps, for `docker exec` */
  startSleeper(): Promise<string>;
  exec(container: string, argv: readonly string[]): Promise<void>;
  execByApi(container: string, argv: readonly string[]): Promise<void>;
}

/** What is missing for a Docker peer, or undefined if nothing is. */
export function dockerMissing(): string | undefined {
  if (process.getuid?.() !== 0) return "docker needs root";
  for (const program of ["dockerd", "containerd", "runc", "docker", "tar", "ldd"]) {
    if (findProgram(program) === undefined) return `${program} is not installed`;
  }
  return undefined;
}

function client(): string {
  // The Debian package's own client, so that client and server are of one version.
  return existsSync("/usr/bin/docker") ? "/usr/bin/docker" : (findProgram("docker") ?? "docker");
}

async function filesOf(programs: readonly string[]): Promise<string[]> {
  const files = new Set(programs);
  for (const program of programs) {
    const { stdout } = await run(["ldd", program]);
    for (const [library] of stdout.matchAll(/\/[^\s)]+/g)) files.add(library);
  }
  return [...files].map((file) => file.replace(/^\//, ""));
}

/** An image of `programs` with the libraries that they load, and nothing else. */
async function importImage(
  command: readonly string[],
  directory: string,
  programs: readonly string[],
) {
  const archive = path.join(directory, "rootfs.tar");
  const files = await filesOf(programs);
  const packed = await run(["tar", "-C", "/", "-chf", archive, ...files]);
  if (packed.code !== 0) throw new Error(`tar failed: ${packed.stderr}`);
  const imported = await run([...command, "import", archive, IMAGE]);
  if (imported.code !== 0) throw new Error(`docker import failed: ${imported.stderr}`);
}

async function must(argv: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await run(argv);
  if (code !== 0) throw new Error(`${argv.slice(3).join(" ")} ended with ${code}: ${stderr}`);
  return stdout.trim();
}

type Call = (method: string, route: string, body?: unknown) => Promise<string>;

function caller(socketPath: string): { call: Call; agent: http.Agent } {
  const agent = new http.Agent({ keepAlive: true });
  const call: Call = (method, route, body) =>
    new Promise((resolve, reject) => {
      const payload = body === undefined ? "" : JSON.stringify(body);
      const headers = { "content-type": "application/json", "content-length": payload.length };
      const request = http.request(
        { socketPath, agent, method, path: route, headers },
        (response) => {
          let text = "";
          response.on("data", (chunk: Buffer) => (text += chunk.toString("latin1")));
          response.on("end", () => {
            if ((response.statusCode ?? 500) < 400) resolve(text);
            else reject(new Error(`docker ${route}: ${response.statusCode} ${text}`));
          });
        },
      );
      request.on("error", reject);
      request.end(payload);
    });
  return { call, agent };
}

async function runByApi(call: Call, parent: string, argv: readonly string[]): Promise<number> {
  const startedMs = performance.now();
  const created = await call("POST", "/containers/create", {
    Image: IMAGE,
    Cmd: argv,
    AttachStdout: true,
    HostConfig: { NetworkMode: "none", CgroupParent: parent },
  });
  const { Id: id } = JSON.parse(created) as { Id: string };
  await call("POST", `/containers/${id}/start`);
  await call("POST", `/containers/${id}/wait`);
  await call("GET", `/containers/${id}/logs?stdout=1`);
  const tookMs = performance.now() - startedMs;
  await call("DELETE", `/containers/${id}?force=1`);
  return tookMs;
}

async function execByApi(call: Call, container: string, argv: readonly string[]): Promise<void> {
  const made = await call("POST", `/containers/${container}/exec`, {
    Cmd: argv,
    AttachStdout: true,
  });
  const { Id: id } = JSON.parse(made) as { Id: string };
  await call("POST", `/exec/${id}/start`, { Detach: false, Tty: false });
}

/** Where containerd's shims put their sockets, whatever its own directories are. */
const SHIM_SOCKETS = "/run/containerd/s";
/** What dockerd and containerd make outside the directories that they are given. */
const FIXED_PLACES = [
  SHIM_SOCKETS,
  "/run/containerd",
  "/run/docker/plugins",
  "/run/docker",
  "/etc/docker",
];

function namesIn(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory) : [];
}

/** Remembers what is there, and gives the function that removes what has come since. */
function watchFixedPlaces(): () => void {
  const missing = FIXED_PLACES.filter((place) => !existsSync(place));
  const before = new Set(namesIn(SHIM_SOCKETS));
  const hadKey = existsSync("/etc/docker/key.json");
  return () => {
    const added = namesIn(SHIM_SOCKETS).filter((name) => !before.has(name));
    for (const name of added) rmSync(path.join(SHIM_SOCKETS, name));
    if (!hadKey) rmSync("/etc/docker/key.json", { force: true });
    for (const place of missing)
      if (namesIn(place).length === 0) rmSync(place, { recursive: true, force: true });
  };
}

function removeCgroups(name: string): void {
  const removeTree = (directory: string): void => {
    if (!existsSync(directory)) return;
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      if (entry.isDirectory()) removeTree(path.join(directory, entry.name));
    }
    rmdirSync(directory);
  };
  const roots = readdirSync(CGROUP_ROOT, { withFileTypes: true }).filter((entry) =>
    entry.isDirectory(),
  );
  for (const root of roots) removeTree(path.join(CGROUP_ROOT, root.name, name));
  removeTree(path.join(CGROUP_ROOT, name));
}

async function startDockerd(directory: string, parent: string): Promise<Child> {
  const at = (name: string) => path.join(directory, name);
  mkdirSync(at("data"));
  // Without a bridge and without rules it changes nothing of this machine's network, and
  // `--network none` is what our sandboxes have.
  return startChild(
    [
      findProgram("dockerd") ?? "dockerd",
      `--host=unix://${at("docker.sock")}`,
      `--data-root=${at("data")}`,
      `--exec-root=${at("exec")}`,
      `--pidfile=${at("pid")}`,
      `--cgroup-parent=${parent}`,
      "--bridge=none",
      "--iptables=false",
      "--ip6tables=false",
      "--ip-forward=false",
      "--ip-masq=false",
    ],
    { env: { ...process.env, HOME: directory, DOCKER_CONFIG: directory } },
  );
}

/** Starts Docker and gives it an image that holds `programs`. */
export async function startDocker(programs: readonly string[]): Promise<Docker> {
  await using stack = new AsyncDisposableStack();
  const directory = stack.use(temporaryDirectory("bench-docker")).path;
  const parent = `/belljar-bench-${randomBytes(4).toString("hex")}`;
  stack.defer(watchFixedPlaces());
  stack.defer(() => removeCgroups(parent.slice(1)));
  const socket = path.join(directory, "docker.sock");
  const command = [client(), "--config", directory, "-H", `unix://${socket}`];
  const daemon = stack.use(await startDockerd(directory, parent));
  await until(
    "dockerd answers",
    async () => {
      if (daemon.process.exitCode !== null) throw new Error(`dockerd ended:\n${daemon.output()}`);
      return (await run([...command, "version"])).code === 0;
    },
    { timeoutMs: READY_TIMEOUT_MS, stepMs: 100 },
  );
  await importImage(command, directory, programs);
  const { call, agent } = caller(socket);
  stack.defer(() => agent.destroy());
  const kept = stack.move();
  return {
    command,
    async run(argv) {
      await must([...command, "run", "--rm", "--network", "none", IMAGE, ...argv]);
    },
    runByApi: (argv) => runByApi(call, parent, argv),
    async startSleeper() {
      const id = await must([
        ...command,
        "run",
        "-d",
        "--network",
        "none",
        IMAGE,
        "/bin/sleep",
        "86400",
      ]);
      kept.defer(() => must([...command, "rm", "-f", id]).then(() => undefined));
      return id;
    },
    async exec(container, argv) {
      await must([...command, "exec", container, ...argv]);
    },
    execByApi: (container, argv) => execByApi(call, container, argv),
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}
