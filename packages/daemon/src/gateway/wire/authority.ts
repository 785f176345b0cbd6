import { detached, malformed } from "./fields.ts";

/** A host and port as a request names them. */
export interface Authority {
  /** Lower case, without a trailing dot; IPv6 in brackets */
  readonly host: string;
  readonly port: number | undefined;
  /** `host[:port]`, as it is sent on */
  readonly text: string;
}

const HOST_CHARS_MAX = 253;
const REGISTERED_NAME = /^[a-z0-9_-]+(\.[a-z0-9_-]+)*$/;
const IPV6 = /^\[[0-9a-f:]{2,39}(\.[0-9.]{5,13})?\]$/;
const PORT = /^[1-9][0-9]{0,4}$/;

/** Hosts seen: clients name the same few again and again. */
const known = new Map<string, Authority>();
const KNOWN_MAX = 1_024;

/**
 * Reads `host[:port]` of a Host header or of an absolute target. Refuses user information, percent
 * encoding, and every byte that resolvers and proxies are known to disagree on.
 *
 * @throws HTTP_MALFORMED
 */
export function parseAuthority(value: string): Authority {
  const seen = known.get(value);
  if (seen !== undefined) return seen;
  const own = detached(value);
  const authority = parseOnce(own);
  if (known.size >= KNOWN_MAX) known.clear();
  known.set(own, authority);
  return authority;
}

function parseOnce(value: string): Authority {
  const lower = value.toLowerCase();
  const portMark = lower.lastIndexOf(":");
  const hasPort = portMark > lower.lastIndexOf("]");
  const name = hasPort ? lower.slice(0, portMark) : lower;
  const host = name.endsWith(".") ? name.slice(0, -1) : name;
  if (host.length > HOST_CHARS_MAX || !(REGISTERED_NAME.test(host) || IPV6.test(host))) {
    throw malformed("a Host that is not a host name");
  }
  const port = hasPort ? parsePort(lower.slice(portMark + 1)) : undefined;
  return { host, port, text: port === undefined ? host : `${host}:${port}` };
}

function parsePort(text: string): number {
  const port = PORT.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65535) throw malformed("a Host with an invalid port");
  return port;
}
