import { BelljarError } from "@belljar/protocol";
import type { Preview, PutPreviewRequest } from "@belljar/protocol";
import { LIMITS } from "../kernel/index.ts";
import type { KeyedLock, SandboxId } from "../kernel/index.ts";
import type { Store } from "../store/index.ts";
import { tooManyPreviews } from "./create-plan.ts";
import { notFound } from "./registry.ts";
import type { SandboxRecord, SandboxRegistry } from "./registry.ts";
import { viewPreview, viewPreviews } from "./view.ts";
import type { PreviewUrl } from "./view.ts";

/** The exposed ports of sandboxes. A change is in force, for connections that are open too, when it resolves. */
export class Previews {
  readonly #registry: SandboxRegistry;
  readonly #store: Store;
  readonly #lock: KeyedLock<SandboxId>;
  readonly #previewUrl: PreviewUrl;

  constructor(options: {
    registry: SandboxRegistry;
    store: Store;
    lock: KeyedLock<SandboxId>;
    previewUrl: PreviewUrl;
  }) {
    this.#registry = options.registry;
    this.#store = options.store;
    this.#lock = options.lock;
    this.#previewUrl = options.previewUrl;
  }

  async put(id: SandboxId, port: number, request: PutPreviewRequest): Promise<Preview> {
    const record = this.#registry.require(id);
    return await this.#lock.run(id, async () => {
      this.#requireUsable(record);
      const before = record.previews.get(port);
      if (before === undefined && record.previews.size >= LIMITS.previewsPerSandboxMax)
        throw tooManyPreviews();
      const row = {
        sandboxId: id,
        port,
        visibility: request.visibility ?? before?.visibility ?? record.row.visibility,
        rewriteHost: request.rewriteHost ?? before?.rewriteHost ?? false,
      };
      await this.#registry.write([this.#store.previews.putStep(row)], {
        type: "preview.changed",
        sandboxId: id,
        data: { port, visibility: row.visibility },
      });
      this.#registry.putPreview(record, row);
      return viewPreview(row, this.#previewUrl);
    });
  }

  async remove(id: SandboxId, port: number): Promise<void> {
    const record = this.#registry.require(id);
    await this.#lock.run(id, async () => {
      this.#requireUsable(record);
      if (!record.previews.has(port)) {
        throw new BelljarError("PREVIEW_NOT_FOUND", `port ${port} of sandbox ${id} is no preview`, {
          id,
          port,
        });
      }
      await this.#registry.write([this.#store.previews.removeStep(id, port)], {
        type: "preview.removed",
        sandboxId: id,
        data: { port },
      });
      this.#registry.removePreview(record, port);
    });
  }

  list(id: SandboxId): Preview[] {
    return viewPreviews(this.#registry.require(id), this.#previewUrl);
  }

  #requireUsable(record: SandboxRecord): void {
    if (this.#registry.find(record.id) !== record || record.row.state === "destroyed")
      throw notFound(record.id);
  }
}
