import { BelljarError } from "@belljar/protocol";
import type { CreateSandboxInput } from "@belljar/protocol";
import type { DriverCapabilities } from "../drivers/index.ts";
import type { Clock, KeyedLock, SandboxId } from "../kernel/index.ts";
import { parseSandboxId } from "../kernel/index.ts";
import type { Store, WriteStep } from "../store/index.ts";
import type { MemoryAdmission } from "./admission.ts";
import { hashRequest, planCreate } from "./create-plan.ts";
import type { CreatePlan } from "./create-plan.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { HostCeilings } from "./limits.ts";
import type { TemplateForStart, TemplateResolver } from "./ports.ts";
import { notFound } from "./registry.ts";
import type { SandboxRecord, SandboxRegistry } from "./registry.ts";
import type { Caller } from "./service.ts";
import type { SandboxSettings } from "./settings.ts";

export interface CreatorOptions {
  readonly store: Store;
  readonly templates: TemplateResolver;
  readonly settings: SandboxSettings;
  readonly capabilities: DriverCapabilities;
  readonly ceilings: HostCeilings;
  readonly clock: Clock;
  readonly registry: SandboxRegistry;
  readonly lifecycle: Lifecycle;
  readonly admission: MemoryAdmission;
  readonly lock: KeyedLock<SandboxId>;
}

interface KeyedRequest {
  readonly owner: string;
  readonly key: string;
  readonly requestHash: string;
}

/** Makes sandboxes, and the same one again for the same idempotency key. */
export class Creator {
  readonly #options: CreatorOptions;
  /** Creates under way by owner and key, so that a retry meets the first attempt and not its half-made row */
  readonly #underWay = new Map<string, { requestHash: string; made: Promise<SandboxId> }>();

  constructor(options: CreatorOptions) {
    this.#options = options;
  }

  async create(input: CreateSandboxInput, caller: Caller): Promise<SandboxId> {
    const template = await this.#options.templates.resolve(input.template);
    if (caller.idempotencyKey === undefined) return await this.#make(input, template);
    const request = {
      owner: caller.owner,
      key: caller.idempotencyKey,
      requestHash: hashRequest(input),
    };
    const slot = JSON.stringify([request.owner, request.key]);
    const before = this.#underWay.get(slot);
    if (before !== undefined) {
      requireSame(request, before.requestHash);
      return await before.made;
    }
    const made = this.#makeOnce(input, template, request).finally(() =>
      this.#underWay.delete(slot),
    );
    this.#underWay.set(slot, { requestHash: request.requestHash, made });
    return await made;
  }

  async #makeOnce(
    input: CreateSandboxInput,
    template: TemplateForStart,
    request: KeyedRequest,
  ): Promise<SandboxId> {
    const { store, registry, clock } = this.#options;
    const known = await store.idempotency.find(request.owner, request.key);
    if (known !== undefined) {
      requireSame(request, known.requestHash);
      const id = parseSandboxId(known.objectId);
      if (id === undefined || registry.find(id) === undefined) throw notFound(known.objectId);
      return id;
    }
    const entryFor = (id: SandboxId) =>
      store.idempotency.insertStep({ ...request, objectId: id, createdAtMs: clock.now() });
    try {
      return await this.#make(input, template, entryFor);
    } catch (error) {
      // The failed create left nothing, so the same key may try again.
      await store.write([store.idempotency.removeStep(request.owner, request.key)]);
      throw error;
    }
  }

  async #make(
    input: CreateSandboxInput,
    template: TemplateForStart,
    entryFor?: (id: SandboxId) => WriteStep,
  ): Promise<SandboxId> {
    const { store, lifecycle, lock } = this.#options;
    const { record, previews } = this.#reserve(input);
    const steps = [
      store.sandboxes.insertStep(record.row),
      ...previews.map((preview) => store.previews.putStep(preview)),
      ...(entryFor === undefined ? [] : [entryFor(record.id)]),
    ];
    const isDiskAsked = typeof input.limits.diskBytes === "number";
    await lock.run(record.id, () => lifecycle.create(record, template, { steps, isDiskAsked }));
    return record.id;
  }

  /** Every check and every reservation in one turn: of two creates at once the second sees the first. */
  #reserve(input: CreateSandboxInput): { record: SandboxRecord; previews: CreatePlan["previews"] } {
    const { registry, settings, ceilings, capabilities, clock, admission } = this.#options;
    const { row, previews } = planCreate(input, {
      settings,
      ceilings,
      capabilities,
      nowMs: clock.now(),
    });
    if (row.name !== null && registry.isNameTaken(row.name)) {
      throw new BelljarError("SANDBOX_NAME_TAKEN", `a sandbox is called ${row.name} already`, {
        name: row.name,
      });
    }
    if (registry.size >= settings.countMax) {
      throw new BelljarError(
        "SANDBOX_LIMIT_REACHED",
        `there are ${registry.size} sandboxes, the most allowed`,
        {
          countMax: settings.countMax,
        },
      );
    }
    const slot = registry.slots.allocate();
    try {
      admission.admit(row.id, {
        limitBytes: row.limits.memoryBytes,
        measuredBytes: null,
        isBare: row.start === null,
      });
    } catch (error) {
      registry.slots.free(slot);
      throw error;
    }
    return { record: registry.add({ ...row, slot }, previews), previews };
  }
}

function requireSame(request: KeyedRequest, requestHash: string): void {
  if (request.requestHash === requestHash) return;
  throw new BelljarError(
    "IDEMPOTENCY_CONFLICT",
    `the key ${request.key} was used for another request`,
    {
      idempotencyKey: request.key,
    },
  );
}
