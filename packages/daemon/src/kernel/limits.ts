/** Limits that more than one folder needs to agree on. Everything else keeps its own at the top of its file. */
export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;

export const LIMITS = {
  /** Bytes of one frame's data on a guest connection */
  guestFrameBytesMax: 64 * KIB,
  /** Bytes of a guest request, arguments and environment included */
  guestRequestBytesMax: MIB,
  /** Bytes of a path inside a sandbox, the kernel's PATH_MAX less its NUL */
  pathBytesMax: 4095,
  /** Ports of one sandbox that can be previews */
  previewsPerSandboxMax: 32,
} as const;
