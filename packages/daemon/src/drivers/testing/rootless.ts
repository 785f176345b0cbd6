/** Run as a user without privileges: starts a sandbox and prints, as JSON, what came of it. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { hostPath } from "../../kernel/index.ts";
import { BelljarError } from "@belljar/protocol";
import { Machine } from "./machine.ts";

const directory = process.argv[2] ?? "";
const machine = new Machine({
  dataDir: hostPath(join(directory, "data")),
  runDir: hostPath(join(directory, "run")),
});
const driver = await machine.driver();
const capabilities = await driver.capabilities();
const spec = machine.spec();
const volume = await driver.ensureVolume(spec.id, { slot: spec.slot, diskBytes: 1024 * 1024 * 64 });
const refusal = await driver
  .start({ ...spec, onUnsupported: "refuse" })
  .catch((error: unknown) => error);
const started = await driver.start(spec);
const said = await machine.run(
  spec.id,
  "id -u; echo x > /dev/null; touch /home/user/file; cat /proc/1/status | grep CapEff; " +
    "cd /home/user && mkdir -p a/b/c && touch a/b/c/file && chmod 000 a/b/c a/b a",
);
await driver.kill(spec.id);
await driver.removeVolume(spec.id);
const left = readdirSync(join(directory, "run")).filter(
  (name) => /\.(state|sock)$/.test(name) && name !== "warden.sock",
);
await machine[Symbol.asyncDispose]();
process.stdout.write(
  JSON.stringify({
    refused: BelljarError.is(refusal) ? refusal.code : String(refusal),
    uid: said.stdout.split("\n")[0],
    stderr: said.stderr,
    isPrivileged: capabilities.isPrivileged,
    missing: started.effective.filter(({ inForce }) => !inForce).map(({ layer }) => layer),
    disk: volume.effective,
    left,
  }),
);
