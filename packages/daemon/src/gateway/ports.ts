/** What the gateway needs from the rest of the daemon; `compose.ts` gives it. */
import type { Duplex } from "node:stream";
import type { SandboxState, Visibility } from "@belljar/protocol";
import type { SandboxId } from "../kernel/index.ts";

/** One exposed port of one sandbox, as it is at this moment. */
export interface PreviewRecord {
  readonly sandboxId: SandboxId;
  readonly port: number;
  readonly visibility: Visibility;
  readonly state: SandboxState;
  /** Whether the app sees `localhost:{port}` as its host */
  readonly rewriteHost: boolean;
  /** Grows with every change of visibility or options */
  readonly revision: number;
}

/** Which previews exist. Synchronous and from memory: it is asked on every request. */
export interface PreviewDirectory {
  find(id: SandboxId, port: number): PreviewRecord | undefined;
}

/** Brings a sandbox to `running`. */
export interface SandboxWaker {
  /** Resolves when it runs; rejects with the true reason. The gateway asks once for any number of visitors. */
  wake(id: SandboxId, options: { reason: string; signal?: AbortSignal }): Promise<void>;
}

/** Opens a connection to a port inside a running sandbox. */
export interface PortDialer {
  /**
   * Resolves with a stream that is connected to the port (half-open allowed, so that one side's end
   * is not the other's); rejects when nothing listens there.
   */
  dial(id: SandboxId, port: number, signal?: AbortSignal): Promise<Duplex>;
}

/** Told what happens, so that sandboxes in use are not put to sleep. */
export interface ActivitySink {
  /** Bytes flow; at most about once a second a sandbox */
  touch(id: SandboxId): void;
  /** A request or a WebSocket starts */
  opened(id: SandboxId): void;
  /** It ends */
  closed(id: SandboxId): void;
}

/** What lets a visitor in: a link, a code that works once, or the session either is exchanged for. */
export interface GrantRow {
  readonly id: string;
  readonly sandboxId: SandboxId;
  /** The port it is for; null is every port of the sandbox */
  readonly port: number | null;
  readonly kind: "link" | "code" | "session";
  /** SHA-256 of the token, hexadecimal; the token itself is nowhere */
  readonly tokenHash: string;
  /** The link that a session was made from; null for a session of the owner, which a code gave */
  readonly parentId: string | null;
  readonly createdAtMs: number;
  readonly expiresAtMs: number;
  readonly usedAtMs: number | null;
  readonly revokedAtMs: number | null;
}

/** Where grants are kept. */
export interface GrantStore {
  insert(grant: GrantRow): void | Promise<void>;
  findByHash(tokenHash: string): GrantRow | undefined | Promise<GrantRow | undefined>;
  /** Marks a code as used; true for exactly one caller. */
  consume(id: string): boolean | Promise<boolean>;
  revoke(id: string): void | Promise<void>;
  /** All grants of a sandbox, used and revoked ones included. */
  list(sandboxId: SandboxId): readonly GrantRow[] | Promise<readonly GrantRow[]>;
}

/** Whether an API token may see a sandbox's previews. Must do the same work for ids that do not exist. */
export interface TokenVerifier {
  mayPreview(token: string, id: SandboxId): Promise<boolean>;
}

/** Tells that a sandbox's previews, state or grants have changed. */
export interface ChangeFeed {
  /** Returns what ends the subscription. */
  onChange(listener: (id: SandboxId) => void): () => void;
}
