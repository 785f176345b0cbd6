import { BelljarError } from "@belljar/protocol";
import type { SandboxId } from "../kernel/index.ts";
import { fieldOf } from "./answers.ts";
import { ownCookie } from "./cookies.ts";
import { type Grant, type Grants, matches } from "./grants.ts";
import { isForeignCall } from "./cross-site.ts";
import type { ClientRequest } from "./client-request.ts";
import type { HostTable } from "./hosts.ts";
import type { PreviewRecord, TokenVerifier } from "./ports.ts";
import type { Throttle } from "./throttle.ts";
import type { RequestHead } from "./wire/index.ts";

/** What let a visitor in; kept with the request so that it can be judged again while it lasts. */
export type Access =
  | { readonly kind: "public" }
  | { readonly kind: "grant"; readonly token: string; readonly grant: Grant }
  | { readonly kind: "api-token"; readonly token: string };

export interface Target {
  readonly id: SandboxId;
  readonly port: number;
}

/** Sessions remembered between requests of one page. */
const REMEMBERED_MAX = 4_096;
const PUBLIC: Access = { kind: "public" };

export interface AccessOptions {
  readonly hosts: HostTable;
  readonly grants: Grants;
  readonly tokens: TokenVerifier;
  /** Wall clock, `ms` */
  readonly now: () => number;
  /** Counts wrong credentials by address */
  readonly throttle: Throttle;
}

/**
 * Who may see a preview. The answer depends on the host that was routed, never on a header that
 * names another one, and is the same for what does not exist and for what is not the visitor's.
 */
export class AccessControl {
  readonly #options: AccessOptions;
  readonly #remembered = new Map<string, Grant>();
  /** Grows whenever something was forgotten: an answer that was sought before then may be out of date */
  changeCount = 0;

  constructor(options: AccessOptions) {
    this.#options = options;
  }

  /** Undefined is no. Answers at once for a public preview, so that it costs no turn of the event loop. */
  decide(
    { head, facts }: Pick<ClientRequest, "head" | "facts">,
    target: Target,
    record: PreviewRecord | undefined,
  ): Access | undefined | Promise<Access | undefined> {
    if (record?.visibility === "public") return PUBLIC;
    const token = fieldOf(head, "x-belljar-token");
    if (token !== undefined) return this.#byToken(token, target, record, facts.address);
    const session = sessionOf(head, facts.protocol);
    if (session === undefined || isForeignCall(head, target, this.#options.hosts)) return undefined;
    const known = this.#remembered.get(session);
    if (known !== undefined && known.expiresAtMs > this.#options.now()) {
      return mayEnter(known, target, record)
        ? { kind: "grant", token: session, grant: known }
        : undefined;
    }
    return this.#byGrant(session, target, record);
  }

  /** Judges again what was allowed before: visibility, state or grants may have changed. */
  async stillHolds(
    access: Access,
    target: Target,
    record: PreviewRecord | undefined,
  ): Promise<boolean> {
    if (record === undefined) return false;
    if (access.kind === "public") return record.visibility === "public";
    if (record.visibility === "public") return true;
    if (access.kind === "api-token")
      return await this.#options.tokens.mayPreview(access.token, target.id);
    const grant = await this.#options.grants.resolve(access.token);
    return grant !== undefined && mayEnter(grant, target, record);
  }

  /** Forgets what it remembered of a sandbox's grants. */
  forget(id: SandboxId): void {
    this.changeCount += 1;
    for (const [token, grant] of this.#remembered) {
      if (grant.sandboxId === id) this.#remembered.delete(token);
    }
  }

  async #byGrant(
    token: string,
    target: Target,
    record: PreviewRecord | undefined,
  ): Promise<Access | undefined> {
    const { changeCount } = this;
    const grant = await this.#options.grants.resolve(token);
    if (grant === undefined || !mayEnter(grant, target, record)) return undefined;
    // A revocation while the store was asked must not be outlived by what the store said before it.
    if (changeCount === this.changeCount) {
      if (this.#remembered.size >= REMEMBERED_MAX) this.#remembered.clear();
      this.#remembered.set(token, grant);
    }
    return { kind: "grant", token, grant };
  }

  async #byToken(
    token: string,
    target: Target,
    record: PreviewRecord | undefined,
    address: string,
  ): Promise<Access | undefined> {
    if (this.#options.throttle.isExceeded(address)) {
      throw new BelljarError("PREVIEW_LIMIT", "too many failed credentials from this address");
    }
    if (token.startsWith("bjlink_")) {
      const access = await this.#byGrant(token, target, record);
      if (access === undefined) this.#options.throttle.note(address);
      return access;
    }
    const isAllowed = await this.#options.tokens.mayPreview(token, target.id);
    if (!isAllowed) this.#options.throttle.note(address);
    return isAllowed && record !== undefined ? { kind: "api-token", token } : undefined;
  }
}

function mayEnter(grant: Grant, target: Target, record: PreviewRecord | undefined): boolean {
  if (record === undefined || !matches(grant, { sandboxId: target.id, port: target.port }))
    return false;
  return grant.isOwner || record.visibility !== "private";
}

function sessionOf(head: RequestHead, protocol: string): string | undefined {
  for (const { name, value } of head.fields) {
    if (name !== "cookie") continue;
    const session = ownCookie(value, protocol);
    if (session !== undefined) return session;
  }
  return undefined;
}
