import { BlockList, isIP } from "node:net";
import { BelljarError } from "@belljar/protocol";
import { fieldOf } from "./answers.ts";
import type { ClientFacts } from "./client-request.ts";
import type { RequestHead } from "./wire/index.ts";

/** Entries of an X-Forwarded-For that are looked at. */
const HOP_COUNT_MAX = 50;

/** Tells clients from the edges in front of them. */
export class TrustedProxies {
  readonly #list = new BlockList();
  readonly #isEmpty: boolean;

  /** @throws CONFIG_INVALID for an entry that is neither an address nor a CIDR range */
  constructor(ranges: readonly string[]) {
    this.#isEmpty = ranges.length === 0;
    for (const range of ranges) {
      const [address = "", prefix] = range.split("/");
      const family = isIP(address);
      const bits = prefix === undefined ? (family === 4 ? 32 : 128) : Number(prefix);
      if (family === 0 || !Number.isInteger(bits) || bits < 0 || bits > (family === 4 ? 32 : 128)) {
        throw new BelljarError("CONFIG_INVALID", `${range} is no address or CIDR range`, { range });
      }
      this.#list.addSubnet(address, bits, family === 4 ? "ipv4" : "ipv6");
    }
  }

  isTrusted(address: string): boolean {
    if (this.#isEmpty) return false;
    const family = isIP(address);
    return family !== 0 && this.#list.check(address, family === 4 ? "ipv4" : "ipv6");
  }

  /**
   * Who sent a request: the right-most address in X-Forwarded-For that is not a trusted proxy's.
   * Headers of connections that are not a trusted proxy's mean nothing.
   */
  identify(direct: ClientFacts, head: RequestHead): ClientFacts {
    if (this.#isEmpty || !this.isTrusted(direct.address)) return direct;
    const hops = head.fields
      .filter(({ name }) => name === "x-forwarded-for")
      .flatMap(({ value }) => value.split(","))
      .slice(-HOP_COUNT_MAX);
    let { address } = direct;
    for (const hop of hops.toReversed()) {
      const candidate = plainAddress(hop.trim());
      if (isIP(candidate) === 0) break;
      address = candidate;
      if (!this.isTrusted(candidate)) break;
    }
    const protocol = fieldOf(head, "x-forwarded-proto") === "https" ? "https" : "http";
    return { address, protocol };
  }
}

/** An address without the IPv6 mapping that a dual-stack socket puts before IPv4 ones. */
export function plainAddress(address: string): string {
  return address.startsWith("::ffff:") ? address.slice(7) : address;
}
