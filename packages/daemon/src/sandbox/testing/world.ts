import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BelljarError, createSandboxRequestSchema } from "@belljar/protocol";
import type { CreateSandboxInput, CreateSandboxRequest } from "@belljar/protocol";
import { GIB, MIB, hostPath } from "../../kernel/index.ts";
import type { SandboxId } from "../../kernel/index.ts";
import { silentLogger } from "../../log/index.ts";
import { openStore } from "../../store/index.ts";
import type { Store } from "../../store/index.ts";
import { createSandboxes } from "../index.ts";
import type { EventLog, SandboxGuest, SandboxService, SandboxSettings } from "../index.ts";
import { FakeClock } from "./fake-clock.ts";
import { FakeDriver } from "./fake-driver.ts";

export const SETTINGS: SandboxSettings = {
  countMax: 1000,
  defaults: {
    memoryBytes: 2 * GIB,
    cpuCount: 2,
    processCountMax: 1024,
    openFilesMax: 16_384,
    diskBytes: 10 * GIB,
  },
  timeouts: {
    idleMs: 35 * 60_000,
    onIdle: "freeze",
    frozenMs: 24 * 3600_000,
    lifeMs: null,
    onLifeEnd: "stop",
  },
  memoryFloorPercent: 10,
  memoryExpectedBytes: 64 * MIB,
  memoryReservationMs: 60_000,
  stopGraceMs: 10_000,
  reaperIntervalMs: 5000,
  reconcileIntervalMs: 15_000,
  eventsRetained: 10_000,
};

export const CALLER = { owner: "tester" };

export function input(request: CreateSandboxRequest = {}): CreateSandboxInput {
  return createSandboxRequestSchema.parse(request);
}

/** Sandboxes over a real store, a fake driver and a clock that stands still. */
export interface World extends AsyncDisposable {
  readonly driver: FakeDriver;
  readonly clock: FakeClock;
  readonly memory: { totalBytes: number; availableBytes: number };
  readonly store: Store;
  readonly sandboxes: SandboxService;
  readonly events: EventLog;
  /** Makes writes to the store fail, as a full disk does */
  readonly disk: { isFull: boolean };
  create(request?: CreateSandboxRequest): Promise<SandboxId>;
  /** The daemon dies as by `kill -9`, and another one starts on the same data */
  crash(): Promise<World>;
}

export interface WorldOptions {
  readonly settings?: Partial<SandboxSettings>;
  readonly memory?: { totalBytes: number; availableBytes: number };
  readonly dataDir?: string;
  readonly driver?: FakeDriver;
  readonly clock?: FakeClock;
}

export async function makeWorld(options: WorldOptions = {}): Promise<World> {
  const dataDir = options.dataDir ?? (await mkdtemp(join(tmpdir(), "belljar-sandboxes-")));
  const driver = options.driver ?? new FakeDriver();
  const clock = options.clock ?? new FakeClock();
  const memory = options.memory ?? { totalBytes: 64 * GIB, availableBytes: 60 * GIB };
  const real = await openStore({ dataDir: hostPath(dataDir) });
  const disk = { isFull: false };
  const store: Store = {
    ...real,
    async write(steps) {
      if (disk.isFull) throw new BelljarError("STORAGE_FAILED", "database or disk is full");
      await real.write(steps);
    },
    [Symbol.asyncDispose]: () => real[Symbol.asyncDispose](),
  };
  const process = { isDead: false };
  const { sandboxes, events } = createSandboxes({
    store,
    driver: mortal(driver, process),
    clock,
    logger: silentLogger(),
    templates: { resolve: resolveTemplate },
    settings: { ...SETTINGS, ...options.settings },
    previewUrl: (id, port) => `http://${port}-${id}.localhost`,
    memory: { read: () => memory },
    ceilings: { memoryBytes: 64 * GIB, cpuCount: 4, openFilesMax: 20_000 },
    guestOf: () => guestOf(),
  });
  await sandboxes.open();
  const close = async () => {
    if (process.isDead) return;
    await sandboxes[Symbol.asyncDispose]();
    await real[Symbol.asyncDispose]();
  };
  return {
    driver,
    clock,
    memory,
    store,
    sandboxes,
    events,
    disk,
    async create(request) {
      const { id } = await sandboxes.create(input(request), CALLER);
      return id as SandboxId;
    },
    async crash() {
      process.isDead = true;
      disk.isFull = true;
      await driver[Symbol.asyncDispose]();
      await real[Symbol.asyncDispose]();
      return await makeWorld({ ...options, dataDir, driver, clock: new FakeClock(), memory });
    },
    async [Symbol.asyncDispose]() {
      await close();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

/** The driver as a process has it: once the process is dead, nothing it asked for comes back. */
function mortal(driver: FakeDriver, process: { isDead: boolean }): FakeDriver {
  return new Proxy(driver, {
    get(target, property) {
      const value: unknown = Reflect.get(target, property, target);
      if (typeof value !== "function") return value;
      return (...values: unknown[]): unknown =>
        process.isDead ? new Promise(() => undefined) : Reflect.apply(value, target, values);
    },
  });
}

async function resolveTemplate(name: string) {
  if (name !== "host") throw new BelljarError("TEMPLATE_NOT_FOUND", `there is no template ${name}`);
  return {
    root: { name, layers: [], binds: [] },
    user: "user",
    workdir: "/home/user",
    env: { PATH: "/usr/bin" },
  };
}

/** A guest that can only be unreachable: what the lifecycle must cope with anyway. */
function guestOf(): SandboxGuest {
  const unreachable = () => Promise.reject(new BelljarError("GUEST_UNREACHABLE", "no guest"));
  // The cast: tests of races never get further than the connection.
  const get = (_target: object, property: string | symbol) =>
    property === "then" ? undefined : unreachable;
  return new Proxy({}, { get }) as SandboxGuest;
}
