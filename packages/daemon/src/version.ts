import { readFileSync } from "node:fs";
import { invariant } from "./kernel/index.ts";

/** The package's version; its file lies at the same place beside sources and built files. */
export function packageVersion(): string {
  const content: unknown = JSON.parse(
    readFileSync(new URL("../package.json", import.meta.url), "utf8"),
  );
  invariant(
    typeof content === "object" && content !== null && "version" in content,
    "package.json has no version",
  );
  return String(content.version);
}
