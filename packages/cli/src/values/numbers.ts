import { UsageError } from "../failure.ts";

const PORT_MAX = 65_535;
const INTEGER = /^[0-9]{1,15}$/;

/** A TCP port, 1 to 65535. */
export function parsePort(text: string): number {
  const port = INTEGER.test(text) ? Number(text) : Number.NaN;
  if (!(port >= 1 && port <= PORT_MAX))
    throw new UsageError(`"${text}" is not a port`, "Ports are 1 to 65535.");
  return port;
}

/** A whole number, zero or more. */
export function parseCount(text: string): number {
  if (!INTEGER.test(text)) throw new UsageError(`"${text}" is not a whole number`);
  return Number(text);
}

/** A number of CPUs; fractions are fine. */
export function parseCpus(text: string): number {
  const cpus = /^[0-9]{1,4}(\.[0-9]{1,3})?$/.test(text) ? Number(text) : Number.NaN;
  if (!(cpus > 0))
    throw new UsageError(`"${text}" is not a number of CPUs`, "Write it as 2 or 0.5.");
  return cpus;
}

export interface PortWish {
  readonly port: number;
  readonly visibility?: "private" | "link" | "public";
}

/** `5173`, or `5173:public` for a visibility of its own. */
export function parsePortWish(text: string): PortWish {
  const [port = "", visibility, ...more] = text.split(":");
  if (visibility === undefined) return { port: parsePort(port) };
  if (
    more.length > 0 ||
    (visibility !== "private" && visibility !== "link" && visibility !== "public")
  ) {
    throw new UsageError(
      `"${text}" is not PORT[:VISIBILITY]`,
      "Visibilities are private, link and public.",
    );
  }
  return { port: parsePort(port), visibility };
}
