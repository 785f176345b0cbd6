import swagger from "@fastify/swagger";
import { errorEnvelopeSchema } from "@belljar/protocol";
import { jsonSchemaTransform, jsonSchemaTransformObject } from "fastify-type-provider-zod";
import type { Api } from "./services.ts";

const DESCRIPTION = [
  "Sealed sandboxes for AI agents, each with live URLs.",
  "Every answer that is not 2xx is an `Error`. Lists are paged by `cursor`. Times are ISO 8601 in UTC, durations milliseconds, sizes bytes.",
].join(" ");

/** Collects the routes as they register; must come before them. */
export async function installOpenApi(api: Api, version: string): Promise<void> {
  await api.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: { title: "Belljar", version, description: DESCRIPTION },
      components: {
        securitySchemes: {
          bearer: {
            type: "http",
            scheme: "bearer",
            description: "A token, `bj_…`; see `belljar token create`.",
          },
        },
      },
    },
    // The error envelope is registered by importing it; every operation refers to it below.
    transform: (document) => jsonSchemaTransform(document),
    transformObject: jsonSchemaTransformObject,
  });
}

type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
type JsonObject = { [name: string]: Json };

/** The document: one name for each schema, the error answer and the policy on every operation. */
export function openApiDocument(api: Api): JsonObject {
  // swagger() gives a JSON document; the types of openapi-types say less about it than these.
  const document = structuredClone(api.swagger()) as unknown as JsonObject;
  mergeInputTwins(document);
  for (const operations of Object.values(objectAt(document, "paths"))) {
    if (!isObject(operations)) continue;
    for (const operation of Object.values(operations))
      if (isObject(operation)) addErrorAnswer(operation);
  }
  document["security"] = [{ bearer: [] }];
  return document;
}

function addErrorAnswer(operation: JsonObject): void {
  const responses = objectAt(operation, "responses");
  const id = errorEnvelopeSchema.meta()?.id ?? "Error";
  responses["default"] = {
    description: "What went wrong",
    content: { "application/json": { schema: { $ref: `#/components/schemas/${id}` } } },
  };
  operation["responses"] = responses;
}

/**
 * The type provider writes a schema that is used both ways twice, as `X` and `XInput`. Where both say
 * the same, one is enough, and every reference goes to it.
 */
function mergeInputTwins(document: JsonObject): void {
  const schemas = objectAt(objectAt(document, "components"), "schemas");
  const renamed = new Map<string, string>();
  for (const name of Object.keys(schemas)) {
    const base = name.replace(/Input$/, "");
    if (base === name) continue;
    const twin = schemas[base];
    if (twin === undefined) schemas[base] = schemas[name] ?? {};
    else if (shape(twin) !== shape(schemas[name] ?? null)) continue;
    renamed.set(`#/components/schemas/${name}`, `#/components/schemas/${base}`);
    delete schemas[name];
  }
  retarget(document, renamed);
}

/** Outputs say `additionalProperties: false` and name defaulted fields as required; inputs do not. */
function shape(schema: Json): string {
  return JSON.stringify(schema, (key, value: unknown) => {
    if (key === "additionalProperties" && value === false) return undefined;
    return typeof value === "string" ? value.replace(/Input$/, "") : value;
  });
}

function retarget(value: Json, renamed: ReadonlyMap<string, string>): void {
  if (Array.isArray(value)) {
    for (const item of value) retarget(item, renamed);
  } else if (isObject(value)) {
    const { $ref } = value;
    if (typeof $ref === "string") value["$ref"] = renamed.get($ref) ?? $ref;
    for (const child of Object.values(value)) retarget(child, renamed);
  }
}

function objectAt(object: JsonObject, name: string): JsonObject {
  const value = object[name];
  return isObject(value) ? value : {};
}

function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
