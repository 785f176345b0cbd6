/**
 * The HTTP API under `/v1`: one file a resource, each parses, calls a service and answers. In: services
 * and settings. Out: an http server that never listens itself; the gateway's front gives it connections.
 * Errors leave as the envelope of the error table; bugs leave as INTERNAL and are logged.
 */
export type { HttpApi } from "./api.ts";
export { createApi } from "./api.ts";
export { describeApi } from "./describe.ts";
export type { ApiServices, ApiSettings, PreviewAccess, PreviewAccessGrant } from "./services.ts";
