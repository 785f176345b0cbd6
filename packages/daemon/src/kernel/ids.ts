import { randomBytes } from "node:crypto";

declare const brand: unique symbol;

/** A sandbox's id: 20 characters of [a-z0-9], the first a letter, so it fits in a DNS label. */
export type SandboxId = string & { readonly [brand]: "SandboxId" };

/** An absolute path of the host that the daemon itself computed; never made from a client's or a guest's bytes. */
export type HostPath = string & { readonly [brand]: "HostPath" };

const SANDBOX_ID = /^[a-z][a-z0-9]{19}$/;
const LETTERS = "abcdefghijklmnopqrstuvwxyz";
const ALPHABET = `${LETTERS}0123456789`;

/** The id in `text`, or undefined if it is none. Ids are never normalised: what is not exactly one is refused. */
export function parseSandboxId(text: string): SandboxId | undefined {
  return SANDBOX_ID.test(text) ? (text as SandboxId) : undefined;
}

/** A fresh sandbox id: about 103 bits of the system's randomness. */
export function newSandboxId(): SandboxId {
  return randomName(20) as SandboxId;
}

/** A random name of [a-z0-9] with a letter first; every character is uniform by rejection. */
export function randomName(length: number): string {
  let name = "";
  while (name.length < length) {
    const alphabet = name === "" ? LETTERS : ALPHABET;
    const ceiling = 256 - (256 % alphabet.length);
    for (const byte of randomBytes(length * 2)) {
      if (byte >= ceiling) continue;
      name += alphabet.charAt(byte % alphabet.length);
      if (name.length === 1 || name.length === length) break;
    }
  }
  return name;
}

/** Declares that the daemon computed `path` itself. */
export function hostPath(path: string): HostPath {
  return path as HostPath;
}
