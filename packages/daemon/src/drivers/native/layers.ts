/** The layers of the level `standard`: which of them this machine can apply, and why not the others. */
import { getSystemErrorName } from "node:util";
import type { EffectiveLayer } from "@belljar/protocol";
import type { VolumeOptions } from "../driver.ts";
import type { CgroupLayout, Controller } from "./cgroup.ts";
import { hasController } from "./cgroup.ts";
import type { PoolChoice } from "./storage.ts";

export interface LayerFacts {
  readonly kernel: string;
  readonly isPrivileged: boolean;
  readonly canIdmap: boolean;
  readonly userNamespaceErrno: number;
  readonly cgroups: CgroupLayout;
  /** Why cgroups lack controllers */
  readonly cgroupReason?: string;
}

/** Kernels from 5.19 on mount an overlay over id-mapped layers. */
export function kernelHasOverlayIdmap(release: string): boolean {
  const [major = 0, minor = 0] = release.split(".").map((part) => Number.parseInt(part, 10));
  return major > 5 || (major === 5 && minor >= 19);
}

function layer(name: string, reason?: string): EffectiveLayer {
  return reason === undefined
    ? { layer: name, asked: true, inForce: true }
    : { layer: name, asked: true, inForce: false, reason };
}

/** Every layer of `standard`, asked for; those that cannot be had carry the reason. */
export function layersOf(facts: LayerFacts): EffectiveLayer[] {
  const rootless = facts.isPrivileged ? undefined : "the warden does not run as root";
  const errno = facts.userNamespaceErrno;
  const noUserNamespace =
    errno === 0 ? undefined : `user namespaces are refused (${getSystemErrorName(-errno)})`;
  const idmap = facts.canIdmap ? undefined : `kernel ${facts.kernel} is older than 5.19`;
  return [
    ...[
      "mount-namespace",
      "pid-namespace",
      "ipc-namespace",
      "uts-namespace",
      "network-namespace",
    ].map((name) => layer(name, facts.isPrivileged ? undefined : noUserNamespace)),
    layer("user-namespace", noUserNamespace),
    layer("own-id-range", rootless ?? noUserNamespace),
    layer("id-mapped-template", rootless ?? idmap),
    layer("capabilities"),
    layer("no-new-privileges"),
    layer("seccomp"),
    layer("resource-limits"),
    ...(["memory", "cpu", "pids", "freezer"] as const).map((name) => controllerLayer(facts, name)),
  ];
}

function controllerLayer(facts: LayerFacts, controller: Controller): EffectiveLayer {
  const isThere = hasController(facts.cgroups, controller);
  const reason = facts.cgroupReason ?? `no cgroup hierarchy here has the ${controller} controller`;
  return layer(`cgroup-${controller}`, isThere ? undefined : reason);
}

/** The disk's limits after the warden tried them: `limitErrno` is 0 when the byte limit holds. */
export function volumeLayers(
  options: VolumeOptions,
  limitErrno: number,
  pool: PoolChoice,
): EffectiveLayer[] {
  const layers: EffectiveLayer[] = [];
  if (options.diskBytes !== undefined) {
    layers.push(layer("disk-bytes", limitErrno === 0 ? undefined : diskReason(limitErrno, pool)));
  }
  if (options.inodes !== undefined) {
    layers.push(layer("disk-inodes", "no storage pool can limit the number of files"));
  }
  return layers;
}

function diskReason(errno: number, pool: PoolChoice): string {
  if (pool.kind === "directory")
    return `plain directories have no limit (${pool.reason ?? "no pool"})`;
  return `the pool has no quotas (${getSystemErrorName(-errno)})`;
}
