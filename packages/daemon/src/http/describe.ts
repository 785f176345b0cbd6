import { createApi } from "./api.ts";
import type { ApiServices } from "./services.ts";
import { silentLogger } from "../log/index.ts";
import { systemClock } from "../kernel/index.ts";

const VERSION = "1";

/** The API's document and routes with their policies, without a daemon: no service is called. */
export async function describeApi(): Promise<{
  document: Record<string, unknown>;
  routes: readonly string[];
}> {
  const settings = {
    isApiHost: () => false,
    allowedOrigins: [],
    bodyBytesMax: 1,
    execsPerSandboxMax: 1,
  };
  await using api = await createApi(absentServices(), { settings, version: VERSION });
  return { document: api.openApi(), routes: api.routes };
}

/** Routes take methods of services when they register, and call them only when they are asked. */
function absentServices(): ApiServices {
  const absent = new Proxy(() => undefined, {
    get: (target, name) => (name === "bind" ? () => target : target),
  });
  return new Proxy({ logger: silentLogger(), clock: systemClock } as Partial<ApiServices>, {
    get: (target, name, receiver): unknown => Reflect.get(target, name, receiver) ?? absent,
    ownKeys: () => [
      "sandboxes",
      "events",
      "tasks",
      "tokens",
      "templates",
      "previewAccess",
      "status",
      "clock",
      "logger",
    ],
    getOwnPropertyDescriptor: () => ({ enumerable: true, configurable: true }),
  }) as ApiServices;
}
