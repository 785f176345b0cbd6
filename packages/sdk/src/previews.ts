import type { Link, OpenedPreview, Preview, PutPreviewRequest } from "@belljar/protocol";
import type { CallOptions, Transport } from "./transport.ts";

/** Ports of one sandbox at URLs of their own, made by `sandbox.previews`. */
export class Previews {
  readonly #transport: Transport;
  readonly #path: string;

  /** @internal */
  constructor(transport: Transport, sandboxPath: string) {
    this.#transport = transport;
    this.#path = `${sandboxPath}/previews`;
  }

  /** The sandbox's previews. */
  async list(options: CallOptions = {}): Promise<Preview[]> {
    return (
      await this.#transport.json<{ items: Preview[] }>({ path: this.#path, signal: options.signal })
    ).items;
  }

  /** Opens a port as a preview, or changes one that is open. @throws PREVIEW_LIMIT. */
  put(port: number, request: PutPreviewRequest = {}, options: CallOptions = {}): Promise<Preview> {
    return this.#transport.json({
      method: "PUT",
      path: `${this.#path}/${port}`,
      json: request,
      signal: options.signal,
    });
  }

  /** Closes a preview; its links and sessions end. @throws PREVIEW_NOT_FOUND. */
  async remove(port: number, options: CallOptions = {}): Promise<void> {
    await this.#transport.json({
      method: "DELETE",
      path: `${this.#path}/${port}`,
      signal: options.signal,
    });
  }

  /** A URL that signs one browser in, once, within 60 s. @throws PREVIEW_NOT_FOUND. */
  open(port: number, options: CallOptions = {}): Promise<OpenedPreview> {
    return this.#transport.json({
      method: "POST",
      path: `${this.#path}/${port}/open`,
      signal: options.signal,
    });
  }

  /** A link for whoever holds it, until it expires or is revoked. @throws PREVIEW_NOT_FOUND. */
  createLink(
    port: number,
    options: CallOptions & { expiresInMs?: number | undefined } = {},
  ): Promise<Link> {
    const { expiresInMs, signal } = options;
    return this.#transport.json({
      method: "POST",
      path: `${this.#path}/${port}/links`,
      json: { expiresInMs },
      signal,
    });
  }

  /** The links of a preview, without their URLs. */
  async links(port: number, options: CallOptions = {}): Promise<Link[]> {
    const spec = { path: `${this.#path}/${port}/links`, signal: options.signal };
    return (await this.#transport.json<{ items: Link[] }>(spec)).items;
  }

  /** Ends a link and everything that was opened with it. */
  async revokeLink(port: number, linkId: string, options: CallOptions = {}): Promise<void> {
    const path = `${this.#path}/${port}/links/${encodeURIComponent(linkId)}`;
    await this.#transport.json({ method: "DELETE", path, signal: options.signal });
  }
}
