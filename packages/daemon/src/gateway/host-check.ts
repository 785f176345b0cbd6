/**
 * Dev servers refuse hosts that they do not know, against DNS rebinding. `*.localhost` is on every
 * list, a domain of one's own is on none. So that hot reload works on any domain without
 * configuration, the gateway recognises such a refusal, asks once more as `localhost:{port}`, and
 * does so from then on for that port. Rebinding is not reopened by it: the gateway itself answers
 * only for hosts of its own, to visitors it has let in.
 */

/** Bytes of an answer that are looked at. */
export const HOST_CHECK_BYTES_MAX = 512;

const REFUSALS = [
  // Vite, and what is built on it
  /^Blocked request\. This host \(/,
  // webpack-dev-server, and what is built on it
  /^Invalid Host(\/Origin)? header/,
];

/** Whether a 403 with this beginning is a dev server's refusal of the Host. */
export function isHostRefusal(text: string): boolean {
  return REFUSALS.some((refusal) => refusal.test(text));
}

/** Endpoints of Next's dev server, which judges their Origin without a proper answer to learn from. */
export function isDevEndpoint(target: string): boolean {
  return target.startsWith("/_next/webpack-hmr") || target.startsWith("/__nextjs_");
}
