/*
 * Reads an OpenAPI 3.1 document: references, operations, examples. It knows
 * nothing of the page. Every walk through schemas carries the references that
 * are open above it, because a schema may contain itself.
 */

const METHODS = ['get', 'put', 'post', 'patch', 'delete'];
const REFERENCE_HOPS_MAX = 16;
const EXAMPLE_DEPTH_MAX = 8;

/** Returns a function that follows `$ref`; keys beside a `$ref` win over its target's. */
export function createResolver(root) {
  return function resolve(node) {
    let resolved = node ?? {};
    for (let hops = 0; typeof resolved.$ref === 'string'; hops += 1) {
      if (hops === REFERENCE_HOPS_MAX) return {};
      const { $ref, ...beside } = resolved;
      resolved = { ...lookUp(root, $ref), ...beside };
    }
    return resolved;
  };
}

/** Only references into the same document are followed: the page asks no other server. */
function lookUp(root, reference) {
  if (!reference.startsWith('#/')) return {};
  const steps = reference.slice(2).split('/').map(decodeStep);
  return steps.reduce((node, step) => node?.[step], root) ?? {};
}

function decodeStep(step) {
  return decodeURIComponent(step).replaceAll('~1', '/').replaceAll('~0', '~');
}

export function nameOfReference(reference) {
  return decodeStep(reference.split('/').at(-1));
}

/** Returns [{name, description, operations}] in the document's order of tags. */
export function groupOperations(root) {
  const resolve = createResolver(root);
  const groups = new Map();
  const groupOf = (name, description = '') => {
    if (!groups.has(name)) groups.set(name, { name, description, operations: [] });
    return groups.get(name);
  };
  for (const tag of root.tags ?? []) groupOf(tag.name, tag.description);
  for (const [path, reference] of Object.entries(root.paths ?? {})) {
    const item = resolve(reference);
    for (const method of METHODS) {
      if (!item[method]) continue;
      const operation = readOperation({ root, resolve, path, item, method });
      groupOf(operation.tag).operations.push(operation);
    }
  }
  return [...groups.values()].filter((group) => group.operations.length > 0);
}

function readOperation({ root, resolve, path, item, method }) {
  const source = item[method];
  const responses = Object.entries(source.responses ?? {})
    .map(([status, response]) => ({ status, ...resolve(response) }));
  return {
    method: method.toUpperCase(),
    path,
    id: `op-${source.operationId ?? `${method}${path.replace(/[^A-Za-z0-9]+/g, '-')}`}`,
    tag: source.tags?.[0] ?? 'Other',
    summary: source.summary ?? '',
    description: source.description ?? '',
    isDeprecated: source.deprecated === true,
    token: tokenNeed(source.security ?? root.security ?? []),
    parameters: mergeParameters(resolve, item.parameters, source.parameters),
    body: source.requestBody ? readBody(resolve(source.requestBody)) : null,
    responses,
    isStream: responses.some((response) => response.content?.['text/event-stream']),
  };
}

/** An operation's own parameter replaces one of the same name and place on its path. */
function mergeParameters(resolve, shared = [], own = []) {
  const merged = new Map();
  for (const reference of [...shared, ...own]) {
    const parameter = resolve(reference);
    merged.set(`${parameter.in} ${parameter.name}`, parameter);
  }
  return [...merged.values()];
}

function readBody({ description = '', required = false, content = {} }) {
  const [type, media] = Object.entries(content)[0] ?? ['application/json', {}];
  return { type, media, description, isRequired: required };
}

/** Returns required, optional or none. An empty requirement in the list means: also without. */
function tokenNeed(security) {
  if (security.length === 0) return 'none';
  return security.some((requirement) => Object.keys(requirement).length === 0) ? 'optional' : 'required';
}

/** Returns the example that a parameter or media type states, or undefined. */
export function statedExample(resolve, holder) {
  if (holder.example !== undefined) return holder.example;
  const named = Object.values(holder.examples ?? {})[0];
  if (named !== undefined) return resolve(named).value;
  const schema = resolve(holder.schema);
  return schema.example ?? schema.examples?.[0];
}

/** Returns the stated example, or one made from the schema. */
export function exampleOf(resolve, holder) {
  return statedExample(resolve, holder) ?? exampleOfSchema(resolve, holder.schema, []);
}

function exampleOfSchema(resolve, reference, open) {
  if (open.includes(reference?.$ref) || open.length > EXAMPLE_DEPTH_MAX) return null;
  const inside = [...open, reference?.$ref ?? ''];
  const schema = resolve(reference);
  const stated = schema.example ?? schema.examples?.[0] ?? schema.const ?? schema.default ?? schema.enum?.[0];
  if (stated !== undefined) return stated;
  const choice = (schema.oneOf ?? schema.anyOf)?.[0];
  if (choice) return exampleOfSchema(resolve, choice, inside);
  if (schema.allOf) return Object.assign({}, ...schema.allOf.map((part) => exampleOfSchema(resolve, part, inside)));
  return exampleOfType(resolve, schema, inside);
}

function exampleOfType(resolve, schema, open) {
  switch (typesOf(schema)[0]) {
    case 'object': return exampleOfObject(resolve, schema, open);
    case 'array': return [exampleOfSchema(resolve, schema.items, open)];
    case 'integer': case 'number': return schema.minimum ?? 0;
    case 'boolean': return false;
    case 'string': return 'string';
    default: return null;
  }
}

/** Required fields only, since an optional one in an example looks needed; all where none is. */
function exampleOfObject(resolve, schema, open) {
  const fields = Object.entries(schema.properties ?? {});
  const required = fields.filter(([name]) => schema.required?.includes(name));
  const chosen = required.length > 0 ? required : fields;
  return Object.fromEntries(chosen.map(([name, field]) => [name, exampleOfSchema(resolve, field, open)]));
}

/** Returns the types of a schema as a list, guessed from its other keywords where it states none. */
export function typesOf(schema) {
  if (schema.type !== undefined) return [schema.type].flat();
  if (schema.properties || schema.additionalProperties) return ['object'];
  if (schema.items) return ['array'];
  return [...new Set((schema.enum ?? []).map((value) => (value === null ? 'null' : typeof value)))];
}
