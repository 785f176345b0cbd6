/** Name of our cookie over https (and wherever the browser takes `Secure`): never settable from another host. */
export const SECURE_COOKIE = "__Host-belljar";
/** Name over plain http, where a prefixed cookie would be refused. */
export const PLAIN_COOKIE = "belljar-preview";

const OURS = new Set([SECURE_COOKIE.toLowerCase(), PLAIN_COOKIE.toLowerCase()]);

/**
 * A Cookie header without our cookies; every other byte stays, order and spacing included. Names
 * are compared without case, since some servers fold it.
 */
export function stripCookies(value: string): string {
  if (!mentionsOurs(value)) return value;
  return value
    .split(";")
    .filter((pair) => !OURS.has(nameOf(pair)))
    .join(";")
    .replace(/^ +/, "");
}

/**
 * The value of our cookie in a Cookie header; the prefixed spelling wins, and over https it is the
 * only one: any other host of the domain can set the plain one, for this host too.
 */
export function ownCookie(value: string, protocol: string): string | undefined {
  if (!mentionsOurs(value)) return undefined;
  let plain: string | undefined;
  for (const pair of value.split(";")) {
    const mark = pair.indexOf("=");
    if (mark === -1) continue;
    const name = pair.slice(0, mark).trim();
    if (name === SECURE_COOKIE) return pair.slice(mark + 1).trim();
    if (name === PLAIN_COOKIE && protocol !== "https") plain ??= pair.slice(mark + 1).trim();
  }
  return plain;
}

/**
 * Whether a Set-Cookie header of an app tries to set a cookie of ours. A cookie without a name is
 * sent back as its bare value, so `=belljar-preview=x` sets ours as well.
 */
export function setsOwnCookie(value: string): boolean {
  return OURS.has(nameOf((value.split(";", 1)[0] ?? "").replace(/^[\s=]+/, "")));
}

/**
 * A Set-Cookie of an app without a `Domain` wider than its own host. A cookie for the shared parent
 * domain would reach every other sandbox's app and the API; without the attribute it is the app's own.
 */
export function confineSetCookie(value: string, host: string): string {
  if (!/;\s*domain\s*=/i.test(value)) return value;
  return value
    .split(";")
    .filter((part, index) => {
      const domain = index === 0 ? null : /^\s*domain\s*=\s*\.?(.*?)\s*$/i.exec(part);
      return domain === null || domain[1]?.toLowerCase() === host;
    })
    .join(";");
}

function mentionsOurs(value: string): boolean {
  return /belljar/i.test(value);
}

function nameOf(pair: string): string {
  const mark = pair.indexOf("=");
  return (mark === -1 ? pair : pair.slice(0, mark)).trim().toLowerCase();
}
