/**
 * The window: one listening socket for the API and for every preview host, with strict HTTP/1.1
 * framing of our own on both sides, wake on request, and the grants that let people look.
 */
import type { Server } from "node:http";
import { type Clock, type SandboxId, systemClock } from "../kernel/index.ts";
import { AccessControl } from "./access.ts";
import { ApiRoute } from "./api-route.ts";
import { Front } from "./front.ts";
import { Grants } from "./grants.ts";
import { HostTable } from "./hosts.ts";
import { TrustedProxies } from "./identity.ts";
import { DEFAULT_LIMITS, type GatewayLimits } from "./limits.ts";
import type {
  ActivitySink,
  ChangeFeed,
  GrantStore,
  PortDialer,
  PreviewDirectory,
  SandboxWaker,
  TokenVerifier,
} from "./ports.ts";
import { Previews } from "./previews.ts";
import { Reserved } from "./reserved.ts";
import { Sweeper } from "./sweeper.ts";
import { Throttle } from "./throttle.ts";
import { WakeHold } from "./wake-hold.ts";

export type { IssuedGrant } from "./grants.ts";
export { Grants } from "./grants.ts";
export type { GatewayLimits } from "./limits.ts";
export { DEFAULT_LIMITS } from "./limits.ts";
export type {
  ActivitySink,
  ChangeFeed,
  GrantRow,
  GrantStore,
  PortDialer,
  PreviewDirectory,
  PreviewRecord,
  SandboxWaker,
  TokenVerifier,
} from "./ports.ts";

export interface GatewayOptions {
  /** Base domain of preview hosts, for example `localhost` */
  readonly domain: string;
  /** Address and port to listen on; port 0 takes a free one */
  readonly listen: { readonly host: string; readonly port: number };
  /** More host names of the API */
  readonly apiHosts?: readonly string[];
  /** One more spelling of preview hosts, with `{port}`, `{id}` or `{preview}` */
  readonly publicHostTemplate?: string;
  /** Addresses and CIDR ranges of edges whose X-Forwarded-* count */
  readonly trustedProxies?: readonly string[];
  /** Origins that may show a preview's enter page in a frame, besides the API's own hosts */
  readonly frameAncestors?: readonly string[];
  /** The API's server; it never listens by itself */
  readonly apiServer: Server;
  readonly directory: PreviewDirectory;
  readonly waker: SandboxWaker;
  readonly dialer: PortDialer;
  readonly activity: ActivitySink;
  readonly grantStore: GrantStore;
  readonly tokens: TokenVerifier;
  readonly changes: ChangeFeed;
  readonly limits?: Partial<GatewayLimits>;
  readonly clock?: Clock;
}

export interface Gateway {
  /** Links, codes and sessions */
  readonly grants: Grants;
  /** Where it listens; undefined before `listen` */
  readonly address: { readonly host: string; readonly port: number } | undefined;
  /** Starts to accept connections. @throws PORT_TAKEN */
  listen(): Promise<void>;
  /** Stops accepting, lets requests in flight end for at most `graceMs`, closes everything. */
  close(options: { graceMs: number }): Promise<void>;
}

/** Builds the gateway; nothing happens before `listen`. @throws CONFIG_INVALID */
export function createGateway(options: GatewayOptions): Gateway {
  const { grants, previews, front, clock } = build(options);
  const unsubscribe = options.changes.onChange((id) => previews.onChange(id));
  let address: Gateway["address"];
  return {
    grants,
    get address() {
      return address;
    },
    async listen() {
      address = await front.listen(options.listen.host, options.listen.port);
    },
    async close({ graceMs }) {
      await front.close(graceMs, (delayMs, run) => clock.after(delayMs, run));
      unsubscribe();
      previews.closeIdle();
    },
  };
}

function build(options: GatewayOptions): {
  grants: Grants;
  previews: Previews;
  front: Front;
  clock: Clock;
} {
  const { directory, dialer, waker, activity, clock = systemClock } = options;
  const limits: GatewayLimits = { ...DEFAULT_LIMITS, ...options.limits };
  const sweeper = new Sweeper(clock);
  const throttle = new Throttle(limits.failuresPerMinuteMax, () => clock.monotonic());
  const grants = new Grants({
    store: options.grantStore,
    clock,
    limits,
    onRevoked: (id: SandboxId) => previews.onChange(id),
  });
  const hosts = new HostTable(options);
  const access = new AccessControl({
    grants,
    hosts,
    tokens: options.tokens,
    now: () => clock.now(),
    throttle,
  });
  const hold = new WakeHold({ directory, waker, dialer, clock, limits });
  const previews = new Previews({ directory, activity, access, hold, clock, limits, sweeper });
  const frameAncestors = [
    `${options.domain}:*`,
    `api.${options.domain}:*`,
    ...(options.frameAncestors ?? []),
  ];
  const reserved = new Reserved({ grants, previews, hold, clock, throttle, frameAncestors });
  const front = new Front({
    hosts,
    proxies: new TrustedProxies(options.trustedProxies ?? []),
    limits,
    sweeper,
    api: new ApiRoute(options.apiServer),
    previews,
    reserved,
  });
  return { grants, previews, front, clock };
}
