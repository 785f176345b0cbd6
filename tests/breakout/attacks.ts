import type { Attack } from "./attack.ts";
import { fileAttacks } from "./attacks/files.ts";
import { kernelAttacks } from "./attacks/kernel.ts";
import { resourceAttacks } from "./attacks/resources.ts";
import { worldAttacks } from "./attacks/world.ts";

/** Every attack, the ones that leave the sandbox in ruins last. */
export const ATTACKS: readonly Attack[] = [
  ...fileAttacks,
  ...kernelAttacks,
  ...worldAttacks,
  ...resourceAttacks,
];
