/** A real warden and driver in a directory of their own, for tests; everything goes away at the end. */
import { execFileSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { GuestClient } from "../../guest/index.ts";
import type { SandboxId } from "../../kernel/index.ts";
import { hostPath, newSandboxId } from "../../kernel/index.ts";
import { createLogger } from "../../log/index.ts";
import type { SandboxDriver, SandboxSpec } from "../driver.ts";
import type { NativeDriverOptions } from "../native/create.ts";
import { createNativeDriver } from "../native/create.ts";

const REPOSITORY = join(dirname(fileURLToPath(import.meta.url)), "../../../../..");
export const WARDEN_DIR = join(REPOSITORY, "native/warden");
/** Another build of the warden, such as the one with sanitizers, takes its place in every test. */
export const WARDEN = process.env["BELLJAR_TEST_WARDEN"] ?? join(WARDEN_DIR, "build/warden");
export const GUEST = join(REPOSITORY, "native/guest/build/guest");
const ADDON = join(WARDEN_DIR, "build/dial.node");
const MIB = 1024 * 1024;

/** Sandboxes need root here; tests skip without it unless BELLJAR_MUST_SANDBOX asks for the failure. */
export const canSandbox = process.geteuid?.() === 0 || process.env["BELLJAR_MUST_SANDBOX"] === "1";

/** Builds what is missing. */
export function buildNative(): void {
  const include = join(REPOSITORY, `node_modules/node-linux-${process.arch}/include/node`);
  execFileSync("make", ["-C", WARDEN_DIR, "-s", "all", "asan", "addon", `NODE_INCLUDE=${include}`]);
  if (!existsSync(GUEST)) execFileSync("make", ["-C", dirname(dirname(GUEST)), "-s"]);
}

/** A root file system in the manner of the `host` template. */
export function makeSkeleton(root: string): void {
  const directories = [
    "etc",
    "home/user",
    "usr",
    "tmp",
    "proc",
    "dev",
    "run",
    "var/tmp",
    "opt",
    "root",
  ];
  for (const name of directories) mkdirSync(join(root, name), { recursive: true });
  for (const name of ["bin", "lib", "lib64", "sbin"]) symlinkSync(`usr/${name}`, join(root, name));
  writeFileSync(
    join(root, "etc/passwd"),
    "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
  );
  writeFileSync(join(root, "etc/group"), "root:x:0:\nuser:x:1000:\n");
}

export interface Said {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number | null;
}

/** One test machine. */
export class Machine implements AsyncDisposable {
  readonly directory: string;
  readonly runDir: string;
  readonly skeleton: string;
  readonly options: NativeDriverOptions;
  #driver: SandboxDriver | undefined;
  #slot = 0;

  constructor(options: Partial<NativeDriverOptions> = {}) {
    buildNative();
    this.directory = mkdtempSync(join(tmpdir(), "belljar-driver-"));
    this.runDir = join(this.directory, "run");
    this.skeleton = join(this.directory, "skeleton");
    makeSkeleton(this.skeleton);
    this.options = {
      dataDir: hostPath(join(this.directory, "data")),
      runDir: hostPath(this.runDir),
      wardenBinary: hostPath(WARDEN),
      guestBinary: hostPath(GUEST),
      dialAddon: hostPath(ADDON),
      wardenSocket: null,
      cgroupName: "belljar-test",
      pool: "auto",
      imageBytes: 1024 * MIB,
      logger: createLogger({ level: "silent" }),
      ...options,
    };
  }

  async driver(): Promise<SandboxDriver> {
    this.#driver ??= await createNativeDriver(this.options);
    return this.#driver;
  }

  spec(id: SandboxId = newSandboxId(), limits: Partial<SandboxSpec["limits"]> = {}): SandboxSpec {
    this.#slot += 1;
    return {
      id,
      slot: this.#slot,
      template: {
        name: "test",
        layers: [hostPath(this.skeleton)],
        binds: [{ source: hostPath("/usr"), target: "/usr", readOnly: true }],
      },
      hostname: "box",
      limits: {
        memoryBytes: 256 * MIB,
        cpuCount: 1,
        processCount: 64,
        openFilesMax: 1024,
        tmpBytes: 32 * MIB,
        shmBytes: 32 * MIB,
        ...limits,
      },
      level: "standard",
      onUnsupported: "degrade",
    };
  }

  /** A volume and a sandbox that runs. */
  async start(spec: SandboxSpec = this.spec(), diskBytes?: number): Promise<SandboxSpec> {
    const driver = await this.driver();
    const disk = diskBytes === undefined ? {} : { diskBytes };
    await driver.ensureVolume(spec.id, { slot: spec.slot, ...disk });
    await driver.start(spec);
    return spec;
  }

  async guest(id: SandboxId): Promise<GuestClient> {
    const driver = await this.driver();
    return new GuestClient((signal) => driver.connectGuest(id, signal));
  }

  /** Runs a shell command inside, as root of the sandbox. */
  async run(id: SandboxId, script: string, user = "root"): Promise<Said> {
    const guest = await this.guest(id);
    const env = { PATH: "/usr/bin:/bin:/usr/sbin:/sbin" };
    const session = await guest.exec({ command: ["/bin/sh", "-c", script], env, user });
    const said = { stdout: "", stderr: "" };
    for await (const { stream, data } of session.output)
      said[stream] += Buffer.from(data).toString();
    const { exitCode } = await session.exited;
    return { ...said, exitCode };
  }

  wardenPid(): number {
    for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
      const command = readCommand(pid);
      if (command.includes(`${this.runDir}/warden.sock`)) return Number(pid);
    }
    throw new Error(`no warden serves ${this.runDir}`);
  }

  /** Traces of sandboxes on the host: state files, sockets, cgroups, processes in namespaces. */
  traces(): string[] {
    const files = existsSync(this.runDir)
      ? readdirSync(this.runDir).filter(
          (name) => /\.(state|sock|new)$/.test(name) && name !== "warden.sock",
        )
      : [];
    return [...files, ...this.cgroups(), ...this.guests().map((pid) => `process ${pid}`)];
  }

  cgroups(): string[] {
    return this.#roots().flatMap((root) => {
      if (!existsSync(root)) return [];
      const entries = readdirSync(root, { withFileTypes: true });
      return entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(root, name));
    });
  }

  /** Pids of this machine's guests. */
  guests(): number[] {
    const roots = this.#roots();
    const pids = roots.flatMap((root) => {
      if (!existsSync(root)) return [];
      return readdirSync(root, { recursive: true, encoding: "utf8" })
        .filter((name) => name.endsWith("cgroup.procs"))
        .flatMap((name) => readIfThere(join(root, name)).split("\n"))
        .filter((line) => line !== "");
    });
    return [...new Set(pids.map(Number))];
  }

  /** The guest of one sandbox, as the host numbers it. */
  guestOf(id: SandboxId): number {
    const [, , pid] = readFileSync(join(this.runDir, `${id}.state`), "utf8").split(" ");
    return Number(pid);
  }

  #roots(): string[] {
    const command = readCommandOf(this.runDir);
    if (command.length > 0) this.#rememberedRoots = command;
    return this.#rememberedRoots;
  }
  #rememberedRoots: string[] = [];

  async [Symbol.asyncDispose](): Promise<void> {
    const driver = this.#driver;
    if (driver !== undefined) {
      for (const { id } of await driver.list()) await driver.kill(id);
      for (const id of await driver.listVolumes()) await driver.removeVolume(id);
      await driver[Symbol.asyncDispose]();
    }
    await rm(this.directory, { recursive: true, force: true });
  }
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // it ended while we looked
  }
}

function readCommand(pid: string): string {
  return readIfThere(`/proc/${pid}/cmdline`).replaceAll("\0", " ");
}

/** The cgroup roots that the warden of `runDir` was started with. */
function readCommandOf(runDir: string): string[] {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    const words = readIfThere(`/proc/${pid}/cmdline`).split("\0");
    if (!words.includes(`${runDir}/warden.sock`)) continue;
    return words.filter((_, index) => words[index - 1] === "--cgroup-root");
  }
  return [];
}
