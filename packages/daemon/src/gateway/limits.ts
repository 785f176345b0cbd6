/** Every limit of the gateway that configuration may change, with its default. */
export interface GatewayLimits {
  /** Client connections at once */
  connectionCountMax: number;
  /** Client connections at once from one address that is not a trusted proxy */
  connectionsPerAddressMax: number;
  /** `ms` from a request's first byte (or the connection's start) to the end of its head */
  headTimeoutMs: number;
  /** `ms` that a kept-alive client connection may rest between requests */
  idleTimeoutMs: number;
  /** `ms` in which some of a body that we are ready to read must come, as long as it has no answer */
  bodyProgressWindowMs: number;
  /** `ms` that a client may leave bytes waiting for it */
  clientStallTimeoutMs: number;
  /** `ms` that a connection we have ended waits for the client to end it too */
  lingerTimeoutMs: number;
  /** `ms` from a request's end to the head of the app's answer, or that the app takes nothing of a body */
  responseTimeoutMs: number;
  /** Idle connections kept to one port of one sandbox */
  poolIdlePerPortMax: number;
  /** Idle connections kept in all */
  poolIdleMax: number;
  /** `ms` that an idle connection to an app is kept */
  poolIdleTimeoutMs: number;
  /** Requests in flight to one port of one sandbox, WebSockets included */
  exchangesPerPortMax: number;
  /** `ms` that a request is held for a wake and for the port to listen */
  holdMs: number;
  /** `ms` that a request to a sandbox that already runs waits for the port to listen */
  connectGraceMs: number;
  /** `ms` after which a browser sees the boot page instead of waiting */
  bootPageAfterMs: number;
  /** Requests held at once for one sandbox */
  heldPerSandboxMax: number;
  /** `ms` that a session of the owner lasts */
  sessionLifeMs: number;
  /** Live sessions made from one link: each is a row that whoever holds the link can add */
  sessionsPerLinkMax: number;
  /** Failed credentials from one address in a minute, before it has to wait */
  failuresPerMinuteMax: number;
}

export const DEFAULT_LIMITS: GatewayLimits = {
  connectionCountMax: 10_000,
  connectionsPerAddressMax: 2_000,
  headTimeoutMs: 10_000,
  idleTimeoutMs: 75_000,
  bodyProgressWindowMs: 30_000,
  clientStallTimeoutMs: 300_000,
  lingerTimeoutMs: 2_000,
  responseTimeoutMs: 300_000,
  poolIdlePerPortMax: 128,
  poolIdleMax: 1_024,
  poolIdleTimeoutMs: 30_000,
  exchangesPerPortMax: 1_024,
  holdMs: 30_000,
  connectGraceMs: 2_000,
  bootPageAfterMs: 300,
  heldPerSandboxMax: 256,
  sessionLifeMs: 12 * 3600 * 1000,
  sessionsPerLinkMax: 2_000,
  failuresPerMinuteMax: 20,
};
