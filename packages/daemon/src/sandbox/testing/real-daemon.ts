import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createNativeDriver } from "../../drivers/index.ts";
import type { SandboxDriver } from "../../drivers/index.ts";
import { hostPath, systemClock } from "../../kernel/index.ts";
import type { SandboxId } from "../../kernel/index.ts";
import { silentLogger } from "../../log/index.ts";
import { lockDataDir, openStore } from "../../store/index.ts";
import { createTemplateService } from "../../templates/index.ts";
import { createSandboxes } from "../index.ts";
import type { EventLog, SandboxService, SandboxSettings } from "../index.ts";
import type { Store } from "../../store/index.ts";
import { CALLER, input, SETTINGS } from "./world.ts";

/** The control plane over the real driver, without HTTP. */
export interface RealDaemon extends AsyncDisposable {
  readonly dataDir: string;
  readonly store: Store;
  readonly driver: SandboxDriver;
  readonly sandboxes: SandboxService;
  readonly events: EventLog;
}

export async function makeDataDir(): Promise<string> {
  return await mkdtemp(join(tmpdir(), "bj-"));
}

export async function removeDataDir(dataDir: string): Promise<void> {
  await rm(dataDir, { recursive: true, force: true });
}

/** Starts one on `dataDir`; disposing stops it and leaves sandboxes and data as they are. */
export async function startRealDaemon(
  dataDir: string,
  settings: Partial<SandboxSettings> = {},
): Promise<RealDaemon> {
  const native = fileURLToPath(new URL("../../../../../native", import.meta.url));
  const place = (path: string) => hostPath(join(native, path));
  const logger = silentLogger();
  await using stack = new AsyncDisposableStack();
  stack.use(await lockDataDir(hostPath(dataDir)));
  const store = stack.use(await openStore({ dataDir: hostPath(dataDir) }));
  const driver = stack.use(
    await createNativeDriver({
      dataDir: hostPath(dataDir),
      runDir: hostPath(join(dataDir, "run")),
      wardenBinary: place("warden/build/warden"),
      guestBinary: place("guest/build/guest"),
      dialAddon: place("warden/build/dial.node"),
      wardenSocket: null,
      cgroupName: "belljar-test",
      pool: "directory",
      imageBytes: null,
      logger,
    }),
  );
  const { sandboxes, events } = createSandboxes({
    store,
    driver,
    templates: createTemplateService({ dataDir: hostPath(dataDir), logger }),
    settings: { ...SETTINGS, stopGraceMs: 3000, ...settings },
    clock: systemClock,
    logger,
    previewUrl: (id, port) => `http://${port}-${id}.localhost`,
  });
  stack.use(sandboxes);
  await sandboxes.open();
  const running = stack.move();
  const dispose = () => running.disposeAsync();
  return { dataDir, store, driver, sandboxes, events, [Symbol.asyncDispose]: dispose };
}

export async function createReal(
  { sandboxes }: RealDaemon,
  request: Parameters<typeof input>[0] = {},
): Promise<SandboxId> {
  const { id } = await sandboxes.create(input(request), CALLER);
  return id as SandboxId;
}

/** Output and exit code of a shell line inside. */
export async function shell(
  { sandboxes }: RealDaemon,
  id: SandboxId,
  line: string,
  user?: string,
): Promise<{ code: number | null; out: string }> {
  const guest = await sandboxes.guest(id);
  const defaults = await sandboxes.commandDefaults(id);
  const session = await guest.exec({
    command: ["/bin/sh", "-c", line],
    env: defaults.env,
    cwd: defaults.cwd,
    user: user ?? defaults.user,
  });
  const parts: Uint8Array[] = [];
  for await (const { data } of session.output) parts.push(data);
  const { exitCode } = await session.exited;
  return { code: exitCode, out: Buffer.concat(parts).toString().trim() };
}
