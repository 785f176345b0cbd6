import { availableParallelism } from "node:os";
import type { Status } from "@belljar/protocol";
import { addressesOf } from "./addresses.ts";
import type { Addresses } from "./addresses.ts";
import { announce } from "./announce.ts";
import { createTokenService } from "./auth/index.ts";
import type { TokenService } from "./auth/index.ts";
import type { Config, Secrets } from "./config/index.ts";
import { createNativeDriver } from "./drivers/index.ts";
import type { SandboxDriver } from "./drivers/index.ts";
import { createGateway } from "./gateway/index.ts";
import type { Gateway, GatewayOptions, GrantRow } from "./gateway/index.ts";
import { createApi } from "./http/index.ts";
import type { HttpApi } from "./http/index.ts";
import { invariant, parseSandboxId, systemClock } from "./kernel/index.ts";
import type { Clock } from "./kernel/index.ts";
import type { Logger } from "./log/index.ts";
import { placesOf } from "./places.ts";
import { previewAccess } from "./preview-access.ts";
import { createSandboxes, systemMemory } from "./sandbox/index.ts";
import type { EventLog, MemoryReader, SandboxService, SandboxSettings } from "./sandbox/index.ts";
import { lockDataDir, openStore } from "./store/index.ts";
import type { GrantEntry, Store } from "./store/index.ts";
import { createTaskService } from "./tasks/index.ts";
import type { TaskService } from "./tasks/index.ts";
import { createTemplateService } from "./templates/index.ts";
import type { TemplateService } from "./templates/index.ts";
import { packageVersion } from "./version.ts";

/** What a test may put in the place of the machine's own. */
export interface Overrides {
  readonly clock?: Clock;
  readonly memory?: MemoryReader;
  readonly driver?: SandboxDriver;
}

/** A running daemon; disposing drains it. */
export interface App extends AsyncDisposable {
  readonly url: string;
  /** The first token, at the first start on this data directory alone */
  readonly firstToken: string | undefined;
}

const REAPER_INTERVAL_MS = 5000;
const RECONCILE_INTERVAL_MS = 15_000;
const EVENTS_RETAINED = 10_000;
const DEFAULT_TEMPLATE = "host";
const CPU_COUNT_DEFAULT = 2;

/** What the services stand on, and the way to a gateway that is built last. */
interface Core {
  readonly clock: Clock;
  readonly store: Store;
  readonly tokens: TokenService;
  readonly templates: TemplateService;
  readonly sandboxes: SandboxService;
  readonly events: EventLog;
  readonly tasks: TaskService;
  readonly addresses: Addresses;
  readonly listening: { gateway?: Gateway };
}

/**
 * Builds every service and serves: data directory, store, driver, reconcile, then the listener. When a
 * step fails, those before it are undone. The codes are those of the steps: DATA_DIR_IN_USE,
 * DATA_DIR_UNUSABLE, WARDEN_UNREACHABLE, TOOL_MISSING, PORT_TAKEN, and more.
 */
export async function compose(
  loaded: { config: Config; secrets: Secrets },
  logger: Logger,
  overrides: Overrides = {},
): Promise<App> {
  const { config } = loaded;
  await using stack = new AsyncDisposableStack();
  const startedAtMs = (overrides.clock ?? systemClock).now();
  const core = await buildCore(stack, loaded, { logger, overrides });
  const { clock, sandboxes, tasks, tokens, addresses, listening } = core;
  logger.info("daemon.reconcile", { ...(await sandboxes.open()) });
  await tasks.open();
  const version = packageVersion();
  const status = () => statusOf({ config, addresses, sandboxes, version, startedAtMs });
  const api = stack.use(await apiOf(core, config, { logger, version, status }));
  const gateway = createGateway(gatewayOptions(core, config, api));
  listening.gateway = gateway;
  const firstToken = await tokens.createFirst();
  await gateway.listen();
  stack.defer(() => drain(gateway, api, config.server.drainMs));
  const url = addresses.apiUrl();
  stack.use(await announce(config.dataDir, { pid: process.pid, url, version }));
  logger.info("daemon.ready", { url, version, durationMs: clock.now() - startedAtMs });
  const running = stack.move();
  return {
    url,
    firstToken: firstToken?.token,
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

async function buildCore(
  stack: AsyncDisposableStack,
  { config, secrets }: { config: Config; secrets: Secrets },
  { logger, overrides }: { logger: Logger; overrides: Overrides },
): Promise<Core> {
  const clock = overrides.clock ?? systemClock;
  const places = placesOf(config, process.geteuid?.() === 0);
  const { dataDir } = places;
  stack.use(await lockDataDir(dataDir));
  const store = stack.use(await openStore({ dataDir }));
  const configured = secrets.tokens.map((token) => token.expose());
  const tokens = createTokenService({ store, clock, logger, configured });
  const templates = createTemplateService({ dataDir, logger });
  // Assembled while the driver starts, so that the first create does not wait; a failure is that create's.
  void templates
    .resolve(DEFAULT_TEMPLATE)
    .catch((error: unknown) => logger.warn("template.prepare", { error }));
  const driver = stack.use(overrides.driver ?? (await driverOf(config, places, logger)));
  const listening: Core["listening"] = {};
  const portInUse = () => listening.gateway?.address?.port ?? config.server.port;
  const addresses = addressesOf(config, portInUse);
  const { sandboxes, events } = createSandboxes({
    store,
    driver,
    templates,
    settings: settingsOf(config),
    clock,
    logger,
    previewUrl: (id, port) => addresses.previewUrl(id, port),
    memory: overrides.memory ?? systemMemory,
  });
  stack.use(sandboxes);
  const tasks = stack.use(createTaskService({ store, sandboxes, events, clock, logger }));
  return { clock, store, tokens, templates, sandboxes, events, tasks, addresses, listening };
}

function apiOf(
  core: Core,
  config: Config,
  own: { logger: Logger; version: string; status: () => Promise<Status> },
): Promise<HttpApi> {
  const { clock, addresses, listening } = core;
  const { logger, version, status } = own;
  const grants = () => {
    invariant(listening.gateway !== undefined, "the API is asked before the gateway stands");
    return listening.gateway.grants;
  };
  const previewUrl = (id: string, port: number) => addresses.previewUrl(id, port);
  const access = previewAccess(grants, {
    clock,
    previewUrl,
    linkLifeMs: config.previews.linkLifeMs,
  });
  const settings = {
    isApiHost: addresses.isApiHost,
    allowedOrigins: config.server.allowedOrigins,
    bodyBytesMax: config.limits.apiBodyBytesMax,
    execsPerSandboxMax: config.limits.execsPerSandboxMax,
  };
  return createApi({ ...core, logger, previewAccess: access, status }, { version, settings });
}

/** New requests are refused first, then those in flight get their time. */
async function drain(gateway: Gateway, api: HttpApi, graceMs: number): Promise<void> {
  api.drain();
  await gateway.close({ graceMs });
}

function driverOf(
  config: Config,
  places: ReturnType<typeof placesOf>,
  logger: Logger,
): Promise<SandboxDriver> {
  return createNativeDriver({
    ...places,
    cgroupName: config.warden.cgroupRoot,
    pool: config.storage.pool,
    imageBytes: config.storage.imageBytes,
    logger,
  });
}

function settingsOf(config: Config): SandboxSettings {
  const { countMax, stopGraceMs, defaults } = config.sandboxes;
  const { memoryBytes, processCountMax, openFilesMax, diskBytes } = defaults;
  const { idleMs, onIdle, frozenMs, lifeMs, onLifeEnd } = defaults;
  const cpuCount = defaults.cpuCount ?? Math.min(CPU_COUNT_DEFAULT, availableParallelism());
  return {
    countMax,
    defaults: { memoryBytes, cpuCount, processCountMax, openFilesMax, diskBytes },
    timeouts: { idleMs, onIdle, frozenMs, lifeMs, onLifeEnd },
    memoryFloorPercent: config.memory.floorPercent,
    memoryExpectedBytes: config.memory.expectedBytes,
    memoryReservationMs: config.memory.reservationMs,
    stopGraceMs,
    reaperIntervalMs: REAPER_INTERVAL_MS,
    reconcileIntervalMs: RECONCILE_INTERVAL_MS,
    eventsRetained: EVENTS_RETAINED,
  };
}

function gatewayOptions(core: Core, config: Config, api: HttpApi): GatewayOptions {
  const { addresses, sandboxes, store, tokens, clock } = core;
  const { publicHostTemplate } = addresses;
  return {
    domain: config.previews.domain,
    listen: { host: config.server.host, port: config.server.port },
    apiHosts: addresses.apiHosts,
    trustedProxies: config.server.trustedProxies,
    frameAncestors: config.server.allowedOrigins,
    apiServer: api.server,
    directory: { find: (id, port) => sandboxes.findPreview(id, port) },
    waker: {
      async wake(id, options) {
        await sandboxes.wake(id, options);
      },
    },
    dialer: { dial: (id, port, signal) => sandboxes.dialPort(id, port, signal) },
    activity: sandboxes,
    grantStore: grantStoreOf(store, clock),
    tokens,
    changes: sandboxes,
    clock,
    limits: { connectionCountMax: config.limits.connectionsMax, holdMs: config.previews.holdMs },
    ...(publicHostTemplate === undefined ? {} : { publicHostTemplate }),
  };
}

/** The store's grants for the gateway; a row whose sandbox id is none counts as absent. */
function grantStoreOf({ grants }: Store, clock: Clock): GatewayOptions["grantStore"] {
  const toRow = (entry: GrantEntry): GrantRow[] => {
    const sandboxId = parseSandboxId(entry.sandboxId);
    return sandboxId === undefined ? [] : [{ ...entry, sandboxId }];
  };
  return {
    insert: (grant) => grants.insert(grant),
    async findByHash(tokenHash) {
      const entry = await grants.findByHash(tokenHash);
      return entry === undefined ? undefined : toRow(entry)[0];
    },
    consume: (id) => grants.consume(id, clock.now()),
    async revoke(id) {
      await grants.revoke(id, clock.now());
    },
    list: async (sandboxId) => (await grants.list(sandboxId)).flatMap(toRow),
  };
}

async function statusOf(parts: {
  config: Config;
  addresses: Addresses;
  sandboxes: SandboxService;
  version: string;
  startedAtMs: number;
}): Promise<Status> {
  const { config, addresses, sandboxes, version, startedAtMs } = parts;
  const { driver, isPrivileged, cgroup, pool, layers } = sandboxes.capabilities();
  return {
    version,
    pid: process.pid,
    startedAt: new Date(startedAtMs).toISOString(),
    url: addresses.apiUrl(),
    previewDomain: config.previews.domain,
    dataDir: config.dataDir,
    driver: {
      name: driver,
      privileged: isPrivileged,
      cgroups: cgroup,
      storagePool: pool,
      layers: layers.map(({ layer, inForce, reason }) => ({
        layer,
        available: inForce,
        ...(reason === undefined ? {} : { reason }),
      })),
    },
    sandboxes: sandboxes.counts(),
    memory: sandboxes.memory(),
  };
}
