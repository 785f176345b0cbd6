import { createHash, randomBytes } from "node:crypto";
import { BelljarError } from "@belljar/protocol";
import type { Scope, Token } from "@belljar/protocol";
import { randomName } from "../kernel/index.ts";
import type { Clock, SandboxId } from "../kernel/index.ts";
import { describeError } from "../log/index.ts";
import type { Logger } from "../log/index.ts";
import type { Store, TokenEntry } from "../store/index.ts";

const PREFIX = "bj_";
const RANDOM_CHARS = 40;
const BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const TOKEN_CHARS_MAX = 512;
/** Milliseconds between two notes of a token's last use */
const LAST_USED_COARSE_MS = 60_000;
const TOKENS_MAX = 10_000;
/** Timers hold 24 days at most: a token that expires later is looked at again */
const EXPIRY_CHECK_MS_MAX = 24 * 3600 * 1000;
/** `name:secret` or `name=secret`, where a person chose the secret */
const CONFIGURED = /^([A-Za-z0-9_.-]{1,64})[:=]([!-~]{16,256})$/;

/** Who a verified token is. */
export interface Identity {
  /** The token's id; `config:<name>` for one of the configuration */
  readonly tokenId: string;
  readonly name: string;
  readonly scope: Scope;
}

/** Makes, knows and revokes API tokens. */
export interface TokenService {
  /** Makes the first token, scope admin, if the store holds none and the configuration gives none; its value is never readable again. */
  createFirst(): Promise<Token | undefined>;
  /** The token with its value, this once. */
  create(request: { name: string; scope: Scope; expiresInMs: number | null }): Promise<Token>;
  /** Who it is; undefined for unknown, expired and revoked tokens alike. */
  verify(token: string): Promise<Identity | undefined>;
  list(): Promise<Token[]>;
  /** TOKEN_NOT_FOUND for an unknown id. Takes effect at once. */
  revoke(id: string): Promise<void>;
  /** Calls `ended` once when the token of `identity` is revoked or expires, at once where it is over already. */
  whenEnded(identity: Identity, ended: () => void): Disposable;
  /** Whether the holder of `token` may see private previews of the sandbox. */
  mayPreview(token: string, id: SandboxId): Promise<boolean>;
}

const RANKS: Readonly<Record<Scope, number>> = { read: 0, operate: 1, admin: 2 };

/** Whether `held` allows what needs `needed`: read < operate < admin. */
export function scopeCovers(held: Scope, needed: Scope): boolean {
  return RANKS[held] >= RANKS[needed];
}

export interface TokenServiceOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Tokens of the configuration: `name:secret` or `name=secret`, scope admin. CONFIG_INVALID for any other shape. */
  readonly configured: readonly string[];
}

/** Builds the service; throws CONFIG_INVALID for configured tokens that cannot be read. */
export function createTokenService(options: TokenServiceOptions): TokenService {
  return new StoredTokens(options);
}

/**
 * Tokens by the SHA-256 of their value, in memory. A look-up by hash takes no longer for a near miss than
 * for nonsense, and a stolen database holds no token.
 */
class StoredTokens implements TokenService {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #configured: ReadonlyMap<string, Identity>;
  readonly #byHash = new Map<string, TokenEntry>();
  readonly #notedAtMs = new Map<string, number>();
  /** Who wants to hear of the end of a token, by its id */
  readonly #listeners = new Map<string, Set<() => void>>();
  #loading: Promise<void> | undefined;
  #isLoaded = false;

  constructor(options: TokenServiceOptions) {
    this.#store = options.store;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#configured = parseConfigured(options.configured);
  }

  async createFirst(): Promise<Token | undefined> {
    await this.#load();
    if (this.#byHash.size > 0 || this.#configured.size > 0) return undefined;
    return await this.create({ name: "first", scope: "admin", expiresInMs: null });
  }

  async create(request: {
    name: string;
    scope: Scope;
    expiresInMs: number | null;
  }): Promise<Token> {
    await this.#load();
    if (this.#byHash.size >= TOKENS_MAX) {
      throw new BelljarError("BAD_REQUEST", `there are ${TOKENS_MAX} tokens, the most allowed`, {
        tokensMax: TOKENS_MAX,
      });
    }
    const value = `${PREFIX}${randomBase62(RANDOM_CHARS)}`;
    const nowMs = this.#clock.now();
    const entry: TokenEntry = {
      id: randomName(20),
      name: request.name,
      scope: request.scope,
      hash: hashOf(value),
      createdAtMs: nowMs,
      expiresAtMs: request.expiresInMs === null ? null : nowMs + request.expiresInMs,
      lastUsedAtMs: null,
    };
    await this.#store.tokens.insert(entry);
    this.#byHash.set(entry.hash, entry);
    return { ...view(entry), token: value };
  }

  async verify(token: string): Promise<Identity | undefined> {
    if (token.length === 0 || token.length > TOKEN_CHARS_MAX) return undefined;
    const hash = hashOf(token);
    const configured = this.#configured.get(hash);
    if (configured !== undefined) return configured;
    if (!this.#isLoaded) await this.#load();
    const entry = this.#byHash.get(hash);
    if (entry === undefined) return undefined;
    const nowMs = this.#clock.now();
    if (entry.expiresAtMs !== null && entry.expiresAtMs <= nowMs) return undefined;
    this.#noteUse(entry, nowMs);
    return { tokenId: entry.id, name: entry.name, scope: entry.scope };
  }

  async list(): Promise<Token[]> {
    await this.#load();
    return [...this.#byHash.values()].map((entry) => view(entry));
  }

  async revoke(id: string): Promise<void> {
    await this.#load();
    const entry = this.#find(id);
    if (entry === undefined)
      throw new BelljarError("TOKEN_NOT_FOUND", `there is no token ${id}`, { id });
    await this.#store.tokens.remove(id);
    this.#byHash.delete(entry.hash);
    this.#notedAtMs.delete(id);
    for (const ended of this.#listeners.get(id) ?? []) ended();
  }

  whenEnded({ tokenId }: Identity, ended: () => void): Disposable {
    const stack = new DisposableStack();
    // Those of the configuration last as long as the daemon.
    if (this.#isConfigured(tokenId)) return stack;
    const tell = () => {
      stack.dispose();
      ended();
    };
    const entry = this.#find(tokenId);
    if (entry === undefined) {
      tell();
      return stack;
    }
    const listeners = this.#listeners.get(tokenId) ?? new Set();
    this.#listeners.set(tokenId, listeners.add(tell));
    stack.defer(() => {
      listeners.delete(tell);
      if (listeners.size === 0) this.#listeners.delete(tokenId);
    });
    if (entry.expiresAtMs !== null) stack.use(this.#atExpiry(entry.expiresAtMs, tell));
    return stack;
  }

  async mayPreview(token: string, _id: SandboxId): Promise<boolean> {
    // Every sandbox belongs to the one team of this daemon: who may read the API may look at previews.
    return (await this.verify(token)) !== undefined;
  }

  #find(id: string): TokenEntry | undefined {
    return [...this.#byHash.values()].find((token) => token.id === id);
  }

  #isConfigured(id: string): boolean {
    return [...this.#configured.values()].some((identity) => identity.tokenId === id);
  }

  #atExpiry(expiresAtMs: number, expired: () => void): Disposable {
    const timer: { current?: Disposable } = {};
    const look = () => {
      const leftMs = expiresAtMs - this.#clock.now();
      if (leftMs <= 0) expired();
      else timer.current = this.#clock.after(Math.min(leftMs, EXPIRY_CHECK_MS_MAX), look);
    };
    look();
    return { [Symbol.dispose]: () => timer.current?.[Symbol.dispose]() };
  }

  /** Reads the stored tokens, once. */
  async #load(): Promise<void> {
    if (this.#isLoaded) return;
    this.#loading ??= this.#store.tokens.all().then((tokens) => {
      for (const token of tokens) this.#byHash.set(token.hash, token);
      this.#isLoaded = true;
    });
    await this.#loading;
  }

  /** Coarse on purpose: a write at every request would cost more than the request. */
  #noteUse(entry: TokenEntry, nowMs: number): void {
    const notedAtMs = this.#notedAtMs.get(entry.id) ?? entry.lastUsedAtMs ?? 0;
    if (nowMs - notedAtMs < LAST_USED_COARSE_MS) return;
    this.#notedAtMs.set(entry.id, nowMs);
    this.#byHash.set(entry.hash, { ...entry, lastUsedAtMs: nowMs });
    this.#store.tokens.markUsed(entry.id, nowMs).catch((error: unknown) => {
      this.#logger.warn("token.mark-used", { tokenId: entry.id, error: describeError(error) });
    });
  }
}

function parseConfigured(configured: readonly string[]): Map<string, Identity> {
  const tokens = new Map<string, Identity>();
  const names = new Set<string>();
  for (const [index, text] of configured.entries()) {
    const match = CONFIGURED.exec(text);
    const [, name, secret] = match ?? [];
    // The message never holds the text: it may be a secret with a typing error.
    if (name === undefined || secret === undefined)
      throw unreadable(index, "is not name:secret with a secret of 16 to 256 printable characters");
    if (names.has(name)) throw unreadable(index, `repeats the name ${name}`);
    names.add(name);
    tokens.set(hashOf(secret), { tokenId: `config:${name}`, name, scope: "admin" });
  }
  return tokens;
}

function unreadable(index: number, reason: string): BelljarError {
  return new BelljarError("CONFIG_INVALID", `auth.tokens[${index}] ${reason}`, {
    key: "auth.tokens",
    index,
  });
}

function hashOf(token: string): string {
  return createHash("sha256").update(token).digest("hex");
}

/** Uniform by rejection. */
function randomBase62(length: number): string {
  const ceiling = 256 - (256 % BASE62.length);
  let text = "";
  while (text.length < length) {
    for (const byte of randomBytes(length)) {
      if (byte < ceiling && text.length < length) text += BASE62.charAt(byte % BASE62.length);
    }
  }
  return text;
}

function view(entry: TokenEntry): Token {
  return {
    id: entry.id,
    name: entry.name,
    scope: entry.scope,
    createdAt: new Date(entry.createdAtMs).toISOString(),
    expiresAt: entry.expiresAtMs === null ? null : new Date(entry.expiresAtMs).toISOString(),
    lastUsedAt: entry.lastUsedAtMs === null ? null : new Date(entry.lastUsedAtMs).toISOString(),
  };
}
