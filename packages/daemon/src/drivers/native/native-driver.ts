import { connect, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { BelljarError } from "@belljar/protocol";
import type { EffectiveLayer } from "@belljar/protocol";
import type { HostPath, SandboxId } from "../../kernel/index.ts";
import { hostPath, parseSandboxId } from "../../kernel/index.ts";
import type { Logger } from "../../log/index.ts";
import type {
  DriverCapabilities,
  DriverSandbox,
  ResourceUsage,
  SandboxDriver,
  SandboxExit,
  SandboxSpec,
  StartedSandbox,
  VolumeOptions,
  VolumeState,
  VolumeUsage,
} from "../driver.ts";
import { readSandboxes, readVolumeUsage, usageFrom } from "./answers.ts";
import type { Dial } from "./dial.ts";
import { requireDial } from "./dial.ts";
import type { LayerFacts } from "./layers.ts";
import { layersOf, volumeLayers } from "./layers.ts";
import type { PlanMachine } from "./plan.ts";
import { planOf, rangeFor } from "./plan.ts";
import type { PoolChoice } from "./storage.ts";
import type { Warden } from "./warden.ts";
import { refusalOf, refusedError } from "./warden-client.ts";
import { ANSWERS, encodeRequest } from "./wire.ts";

const AF_INET = 2;
const AF_INET6 = 10;
const ERRNO = { ESRCH: 3, EPERM: 1, ENOENT: 2, EHOSTDOWN: 112, EEXIST: 17 } as const;
const DIAL_REQUEST_ID = 1;

export interface NativeDriverParts {
  readonly warden: Warden;
  readonly machine: PlanMachine;
  readonly layers: LayerFacts;
  readonly pool: PoolChoice;
  readonly dial: Dial | { readonly reason: string };
  readonly runDir: HostPath;
  readonly wardenSocket: HostPath;
  readonly logger: Logger;
}

/** Sandboxes of namespaces, made by the warden. The driver computes plans and keeps no state but who runs. */
export class NativeDriver implements SandboxDriver {
  readonly name = "native";
  readonly #parts: NativeDriverParts;
  readonly #running = new Set<SandboxId>();
  readonly #listeners = new Set<(exit: SandboxExit) => void>();

  constructor(parts: NativeDriverParts) {
    this.#parts = parts;
  }

  capabilities(): Promise<DriverCapabilities> {
    const { dial, layers, machine, pool } = this.#parts;
    return Promise.resolve({
      driver: this.name,
      isPrivileged: machine.isPrivileged,
      kernel: layers.kernel,
      cgroup: machine.cgroups.mode,
      pool: pool.kind,
      canDial: machine.isPrivileged && typeof dial === "function",
      layers: layersOf(layers),
    });
  }

  async ensureVolume(id: SandboxId, options: VolumeOptions): Promise<VolumeState> {
    const { machine, pool, warden } = this.#parts;
    const { base } = rangeFor(options, machine);
    const [uid, gid] = machine.isPrivileged ? [base, base] : [machine.uid, machine.gid];
    const answer = await warden.request("volumeCreate", [
      ["id", id],
      ["volume", uid, gid, options.diskBytes ?? 0, options.inodes ?? 0],
    ]);
    const status = answer.find(({ tag }) => tag === ANSWERS.status)?.value;
    return { effective: volumeLayers(options, status?.readUInt32LE(0) ?? 0, pool) };
  }

  async removeVolume(id: SandboxId): Promise<void> {
    await this.#unlessGone(this.#parts.warden.request("volumeRemove", [["id", id]]));
  }

  async volumeUsage(id: SandboxId): Promise<VolumeUsage> {
    return readVolumeUsage(await this.#parts.warden.request("volumeUsage", [["id", id]]));
  }

  async listVolumes(): Promise<SandboxId[]> {
    const records = await this.#parts.warden.request("volumeList");
    return records
      .map(({ value }) => parseSandboxId(value.toString("latin1", 0, value.length - 1)))
      .filter((id) => id !== undefined);
  }

  async start(spec: SandboxSpec, signal?: AbortSignal): Promise<StartedSandbox> {
    signal?.throwIfAborted();
    const effective = layersOf(this.#parts.layers);
    refuseUnsupported(spec, effective);
    const { machine, warden } = this.#parts;
    try {
      await warden.request("create", planOf(spec, machine));
    } catch (error) {
      // The warden died over it: nobody knows how far it came, so it must not have come anywhere.
      if (BelljarError.is(error, "WARDEN_UNREACHABLE"))
        await this.kill(spec.id).catch(() => undefined);
      throw startError(spec, error);
    }
    this.#running.add(spec.id);
    if (signal?.aborted === true) {
      await this.kill(spec.id);
      throw new BelljarError("CANCELLED", `the start of ${spec.id} was cancelled`);
    }
    return { effective };
  }

  async freeze(id: SandboxId): Promise<void> {
    await this.#requestOf(id, "freeze");
  }

  async thaw(id: SandboxId): Promise<void> {
    await this.#requestOf(id, "thaw");
  }

  async kill(id: SandboxId): Promise<void> {
    await this.#unlessGone(this.#parts.warden.request("kill", [["id", id]]));
    this.#running.delete(id);
  }

  async list(): Promise<DriverSandbox[]> {
    const sandboxes = readSandboxes(await this.#parts.warden.request("list"));
    for (const { id } of sandboxes) this.#running.add(id);
    return sandboxes;
  }

  async usage(id: SandboxId): Promise<ResourceUsage> {
    return usageFrom(await this.#requestOf(id, "usage"));
  }

  connectGuest(id: SandboxId, signal?: AbortSignal): Promise<Duplex> {
    const path = `${this.#parts.runDir}/${id}.sock`;
    const unreachable = (cause: Error) =>
      new BelljarError(
        "GUEST_UNREACHABLE",
        `the guest of ${id} does not answer`,
        { id },
        { cause },
      );
    return new Promise((resolve, reject) => {
      const socket = connect({
        path,
        allowHalfOpen: true,
        ...(signal === undefined ? {} : { signal }),
      });
      const fail = (cause: Error) => reject(unreachable(cause));
      socket.once("error", fail);
      socket.once("connect", () => {
        socket.off("error", fail);
        resolve(socket);
      });
    });
  }

  async dialPort(id: SandboxId, port: number, signal?: AbortSignal): Promise<Socket> {
    signal?.throwIfAborted();
    let result = await this.#dial(id, port, AF_INET);
    if (result < 0 && result !== -ERRNO.ESRCH && result !== -ERRNO.EHOSTDOWN) {
      result = await this.#dial(id, port, AF_INET6);
    }
    if (result < 0) throw dialError({ id, port, errno: -result });
    const socket = new Socket({ fd: result, readable: true, writable: true, allowHalfOpen: true });
    if (signal?.aborted === true) {
      socket.destroy();
      throw new BelljarError("CANCELLED", `the dial of port ${port} was cancelled`);
    }
    return socket;
  }

  onExit(listener: (exit: SandboxExit) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** An exit that the warden told. */
  takeExit(exit: SandboxExit): void {
    this.#running.delete(exit.id);
    for (const listener of this.#listeners) listener(exit);
  }

  /** After a time without a warden: whoever ran and runs no more has ended, nobody knows how. */
  async catchUp(): Promise<void> {
    const before = [...this.#running];
    if (before.length === 0) return;
    const living = new Set((await this.list()).map(({ id }) => id));
    const usage = { memoryBytes: 0, cpuTimeMs: 0, processCount: 0, oomKills: 0 };
    for (const id of before) {
      if (living.has(id)) continue;
      this.takeExit({ id, exitCode: null, signal: null, usage, isOutOfMemory: false });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.warden.close();
  }

  #dial(id: SandboxId, port: number, family: number): Promise<number> {
    const dial = requireDial(this.#parts.dial);
    const records = [
      ["id", id],
      ["port", family, port],
    ] as const;
    return dial(this.#parts.wardenSocket, encodeRequest("dial", DIAL_REQUEST_ID, records));
  }

  async #requestOf(id: SandboxId, op: "freeze" | "thaw" | "usage") {
    try {
      return await this.#parts.warden.request(op, [["id", id]]);
    } catch (error) {
      if (refusalOf(error)?.errno !== ERRNO.ESRCH) throw error;
      throw new BelljarError(
        "SANDBOX_STATE",
        `sandbox ${id} is not running`,
        { id },
        { cause: error },
      );
    }
  }

  async #unlessGone(request: Promise<unknown>): Promise<void> {
    try {
      await request;
    } catch (error) {
      const errno = refusalOf(error)?.errno;
      if (errno !== ERRNO.ESRCH && errno !== ERRNO.ENOENT) throw error;
    }
  }
}

function refuseUnsupported(spec: SandboxSpec, effective: readonly EffectiveLayer[]): void {
  const missing = effective.find(({ asked, inForce }) => asked && !inForce);
  if (missing === undefined || spec.onUnsupported === "degrade") return;
  const message = `${missing.layer} cannot be applied: ${missing.reason ?? "unknown reason"}`;
  throw new BelljarError("LAYER_UNSUPPORTED", message, { layer: missing.layer });
}

function startError(spec: SandboxSpec, error: unknown): unknown {
  const refusal = refusalOf(error);
  if (refusal === undefined) return error;
  const { id } = spec;
  if (refusal.errno === ERRNO.EEXIST && refusal.step === "id") {
    return new BelljarError(
      "SANDBOX_STATE",
      `sandbox ${id} runs already`,
      { id },
      { cause: error },
    );
  }
  const message = `sandbox ${id} could not start: ${refusal.step}: ${refusal.name}`;
  return new BelljarError("SANDBOX_START_FAILED", message, { id, ...refusal }, { cause: error });
}

function dialError({
  id,
  port,
  errno,
}: {
  id: SandboxId;
  port: number;
  errno: number;
}): BelljarError {
  const cause = refusedError("dial", errno, "connect");
  if (errno === ERRNO.EHOSTDOWN) {
    return new BelljarError("WARDEN_UNREACHABLE", "the warden does not answer", {}, { cause });
  }
  if (errno === ERRNO.EPERM) {
    return new BelljarError(
      "LAYER_UNSUPPORTED",
      "dialling needs a privileged warden",
      {},
      { cause },
    );
  }
  if (errno === ERRNO.ESRCH) {
    return new BelljarError("SANDBOX_STATE", `sandbox ${id} is not running`, { id }, { cause });
  }
  const message = `nothing answers on port ${port} of ${id}`;
  return new BelljarError("PREVIEW_UNREACHABLE", message, { id, port }, { cause });
}

/** Path of the guest's socket; the kernel takes 107 bytes. */
export function guestSocketPath(runDir: HostPath, id: SandboxId): HostPath {
  return hostPath(`${runDir}/${id}.sock`);
}
