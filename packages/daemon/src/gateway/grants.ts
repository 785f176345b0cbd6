import { createHash, randomBytes } from "node:crypto";
import { BelljarError } from "@belljar/protocol";
import { type Clock, randomName, type SandboxId } from "../kernel/index.ts";
import type { GatewayLimits } from "./limits.ts";
import type { GrantRow, GrantStore } from "./ports.ts";

/** A code is exchanged by the page that it opens, at once. */
const CODE_LIFE_MS = 60_000;
const LINK_LIFE_MS_MAX = 90 * 24 * 3600 * 1000;
const TOKEN_BYTES = 32;
const ID_CHARS = 20;
const TOKEN = /^bj(code|link|session)_[A-Za-z0-9_-]{43}$/;

/** A token as it is handed out, once. */
export interface IssuedGrant {
  readonly id: string;
  readonly token: string;
  readonly expiresAtMs: number;
}

/** A visitor's right to a preview. */
export interface Grant {
  readonly id: string;
  readonly sandboxId: SandboxId;
  readonly port: number | null;
  /** Whether it came from the owner's code; a link's does not open private previews */
  readonly isOwner: boolean;
  readonly expiresAtMs: number;
}

export interface GrantsOptions {
  readonly store: GrantStore;
  readonly clock: Clock;
  readonly limits: Pick<GatewayLimits, "sessionLifeMs" | "sessionsPerLinkMax">;
  /** Told when a grant of this sandbox was revoked here */
  readonly onRevoked: (id: SandboxId) => void;
}

/**
 * Links, codes and sessions: who may look through the window without an account. Tokens are 256
 * random bits; only their SHA-256 is kept.
 */
export class Grants {
  readonly #store: GrantStore;
  readonly #clock: Clock;
  readonly #limits: GrantsOptions["limits"];
  readonly #onRevoked: (id: SandboxId) => void;

  constructor(options: GrantsOptions) {
    this.#store = options.store;
    this.#clock = options.clock;
    this.#limits = options.limits;
    this.#onRevoked = options.onRevoked;
  }

  /** A link for whoever holds it, until it expires or is revoked. */
  async createLink(target: {
    sandboxId: SandboxId;
    port: number;
    lifeMs: number;
  }): Promise<IssuedGrant> {
    const lifeMs = Math.min(target.lifeMs, LINK_LIFE_MS_MAX);
    return await this.#issue({
      ...target,
      kind: "link",
      parentId: null,
      expiresAtMs: this.#clock.now() + lifeMs,
    });
  }

  /** A code that becomes a session of the owner, once, within a minute. */
  async createCode(target: { sandboxId: SandboxId; port: number }): Promise<IssuedGrant> {
    return await this.#issue({
      ...target,
      kind: "code",
      parentId: null,
      expiresAtMs: this.#clock.now() + CODE_LIFE_MS,
    });
  }

  /** Revokes a grant and every session made from it. @throws PREVIEW_GRANT_INVALID if the sandbox has none such */
  async revoke(sandboxId: SandboxId, grantId: string): Promise<void> {
    const rows = await this.#store.list(sandboxId);
    const hit = rows.filter(({ id, parentId }) => id === grantId || parentId === grantId);
    if (hit.length === 0)
      throw new BelljarError("PREVIEW_GRANT_INVALID", `no link ${grantId}`, { id: grantId });
    // The sessions last: a session made between the two calls still fails, because its parent is revoked.
    for (const row of hit) await this.#store.revoke(row.id);
    this.#onRevoked(sandboxId);
  }

  /** The links of a sandbox that still work. */
  async list(sandboxId: SandboxId): Promise<readonly GrantRow[]> {
    const rows = await this.#store.list(sandboxId);
    return rows.filter((row) => row.kind === "link" && this.#isAlive(row));
  }

  /** Exchanges a code or a link for a session on one port. @throws PREVIEW_GRANT_INVALID, the same for every reason; PREVIEW_LIMIT */
  async enter(
    token: string,
    target: { sandboxId: SandboxId; port: number },
  ): Promise<IssuedGrant & { isOwner: boolean }> {
    const row = await this.#find(token);
    const fits =
      row !== undefined && row.kind !== "session" && matches(row, target) && this.#isAlive(row);
    if (!fits) throw invalid();
    const isOwner = row.kind === "code";
    if (isOwner && !(await this.#store.consume(row.id))) throw invalid();
    if (!isOwner) await this.#refuseTooMany(row);
    const lifeEndsMs = this.#clock.now() + this.#limits.sessionLifeMs;
    const session = await this.#issue({
      ...target,
      kind: "session",
      // A code is forgotten soon after its minute; a session of the owner stands by itself.
      parentId: isOwner ? null : row.id,
      expiresAtMs: isOwner ? lifeEndsMs : Math.min(lifeEndsMs, row.expiresAtMs),
    });
    return { ...session, isOwner };
  }

  /** The right that a session's or a link's token gives, if it is alive; codes give none by themselves. */
  async resolve(token: string): Promise<Grant | undefined> {
    const row = await this.#find(token);
    if (row === undefined || row.kind === "code" || !this.#isAlive(row)) return undefined;
    const { id, sandboxId, port, expiresAtMs } = row;
    if (row.kind === "link") return { id, sandboxId, port, isOwner: false, expiresAtMs };
    if (row.parentId === null) return { id, sandboxId, port, isOwner: true, expiresAtMs };
    const rows = await this.#store.list(sandboxId);
    const link = rows.find((candidate) => candidate.id === row.parentId);
    if (link === undefined || link.kind !== "link" || !this.#isAlive(link)) return undefined;
    return { id, sandboxId, port, isOwner: false, expiresAtMs };
  }

  async #refuseTooMany(link: GrantRow): Promise<void> {
    const rows = await this.#store.list(link.sandboxId);
    const sessions = rows.filter((row) => row.parentId === link.id && this.#isAlive(row));
    if (sessions.length >= this.#limits.sessionsPerLinkMax)
      throw new BelljarError("PREVIEW_LIMIT", "too many sessions were made from this link");
  }

  async #find(token: string): Promise<GrantRow | undefined> {
    if (!TOKEN.test(token)) return undefined;
    return await this.#store.findByHash(hashOf(token));
  }

  #isAlive(row: GrantRow): boolean {
    const isSpent = row.kind === "code" && row.usedAtMs !== null;
    return row.revokedAtMs === null && !isSpent && row.expiresAtMs > this.#clock.now();
  }

  async #issue(
    grant: Pick<GrantRow, "sandboxId" | "port" | "kind" | "parentId" | "expiresAtMs">,
  ): Promise<IssuedGrant> {
    const token = `bj${grant.kind}_${randomBytes(TOKEN_BYTES).toString("base64url")}`;
    const id = randomName(ID_CHARS);
    const { sandboxId, port, kind, parentId, expiresAtMs } = grant;
    await this.#store.insert({
      id,
      sandboxId,
      port,
      kind,
      parentId,
      expiresAtMs,
      tokenHash: hashOf(token),
      createdAtMs: this.#clock.now(),
      usedAtMs: null,
      revokedAtMs: null,
    });
    return { id, token, expiresAtMs };
  }
}

/** Whether a grant is for this port of this sandbox. */
export function matches(
  grant: { sandboxId: SandboxId; port: number | null },
  target: { sandboxId: SandboxId; port: number },
): boolean {
  return (
    grant.sandboxId === target.sandboxId && (grant.port === null || grant.port === target.port)
  );
}

function invalid(): BelljarError {
  return new BelljarError(
    "PREVIEW_GRANT_INVALID",
    "the code or link is used, expired, revoked or for another preview",
  );
}

function hashOf(token: string): string {
  return createHash("sha256").update(token).digest("hex");
}
