import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Scope, Status } from "@belljar/protocol";
import type { FastifyBaseLogger, FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import type { Identity, TokenService } from "../auth/index.ts";
import type { Clock, SandboxId } from "../kernel/index.ts";
import type { Logger } from "../log/index.ts";
import type { EventLog, SandboxService } from "../sandbox/index.ts";
import type { TaskService } from "../tasks/index.ts";
import type { TemplateService } from "../templates/index.ts";
import type { OpenStreams } from "./open-streams.ts";

/** A link or a code to a preview; `url` holds the secret and is known only when it is made. */
export interface PreviewAccessGrant {
  readonly id: string;
  readonly url: string;
  readonly createdAtMs: number;
  readonly expiresAtMs: number;
}

/** Ways into a preview, as the gateway has them. */
export interface PreviewAccess {
  createCode(id: SandboxId, port: number): Promise<PreviewAccessGrant>;
  createLink(id: SandboxId, port: number, expiresInMs?: number): Promise<PreviewAccessGrant>;
  links(id: SandboxId, port: number): Promise<Omit<PreviewAccessGrant, "url">[]>;
  revokeLink(id: SandboxId, port: number, linkId: string): Promise<void>;
}

/** Everything that routes call. */
export interface ApiServices {
  readonly sandboxes: SandboxService;
  readonly events: EventLog;
  readonly tasks: TaskService;
  readonly tokens: TokenService;
  readonly templates: TemplateService;
  readonly previewAccess: PreviewAccess;
  readonly status: () => Promise<Status>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What the operator decides about the API. */
export interface ApiSettings {
  /** Whether the API answers for this host name (lower case, without port) */
  readonly isApiHost: (host: string) => boolean;
  /** Web origins whose scripts may call */
  readonly allowedOrigins: readonly string[];
  /** Bytes of a JSON body */
  readonly bodyBytesMax: number;
  /** Commands that run at the same time in one sandbox */
  readonly execsPerSandboxMax: number;
  /** Checks each answer against its schema, for tests */
  readonly checkAnswers?: boolean;
}

/** What a route's file gets to build on. */
export interface RouteContext extends ApiServices {
  readonly settings: ApiSettings;
  readonly streams: OpenStreams;
}

/** Who may call a route: anyone, or the holder of a token with this scope. */
export type RoutePolicy = "public" | Scope;

export type Api = FastifyInstance<
  Server,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  ZodTypeProvider
>;

declare module "fastify" {
  interface FastifyContextConfig {
    /** Every route declares one; the daemon does not start with a route that has none */
    policy?: RoutePolicy;
    /** Takes an `Idempotency-Key` */
    takesIdempotencyKey?: boolean;
    /** Answered for any host, also while the daemon stops */
    isHealth?: boolean;
    /** The body is streamed and has no limit here */
    streamsBody?: boolean;
  }
  interface FastifyRequest {
    identity: Identity | null;
    startedMs: number;
    /** Code of the error that the request ended with */
    errorCode: string | null;
  }
}
