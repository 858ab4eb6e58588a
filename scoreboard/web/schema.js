/* Draws a JSON schema as a nested list of fields. */

import { element, formatNumber } from './dom.js';
import { nameOfReference, typesOf } from './openapi.js';
import { prose } from './prose.js';

const SEARCH_DEPTH_MAX = 4;

/** Returns a list of the fields of a schema, or a single line for one without fields. */
export function schemaView(resolve, reference, open = []) {
  const name = reference?.$ref;
  if (name && open.includes(name)) return element('p', { class: 'muted small' }, `${nameOfReference(name)}, as above`);
  const inside = name ? [...open, name] : open;
  const schema = resolve(reference);
  const parts = [...fieldLists(resolve, schema, inside), ...choiceLists(resolve, schema, inside)];
  return parts.length > 0 ? element('div', { class: 'schema' }, ...parts) : valueLine(resolve, schema);
}

function fieldLists(resolve, schema, open) {
  const lists = (schema.allOf ?? []).map((part) => schemaView(resolve, part, open));
  const fields = Object.entries(schema.properties ?? {});
  if (fields.length > 0) {
    const items = fields.map(([name, field]) => fieldItem(resolve, {
      name, field, open, isRequired: schema.required?.includes(name) ?? false,
    }));
    lists.push(element('ul', { class: 'fields' }, ...items));
  }
  if (schema.items && hasParts(resolve, schema.items)) lists.push(nested('Each item', schemaView(resolve, schema.items, open)));
  const extra = schema.additionalProperties;
  if (extra && hasParts(resolve, extra)) lists.push(nested('Each value', schemaView(resolve, extra, open)));
  return lists;
}

/** Choices among plain values are told by the type line; only those with fields get a list each. */
function choiceLists(resolve, schema, open) {
  return choicesOf(schema)
    .filter((choice) => hasParts(resolve, choice))
    .map((choice) => nested(choice.$ref ? nameOfReference(choice.$ref) : 'Either', schemaView(resolve, choice, open)));
}

function choicesOf(schema) {
  return [...(schema.oneOf ?? []), ...(schema.anyOf ?? [])];
}

/** Says whether fields can be found inside; a schema of nothing but itself has none. */
function hasParts(resolve, reference, depth = 0) {
  const schema = resolve(reference);
  if (schema.properties || schema.allOf) return true;
  const inner = [schema.items, schema.additionalProperties, ...choicesOf(schema)].filter(Boolean);
  return depth < SEARCH_DEPTH_MAX && inner.some((part) => hasParts(resolve, part, depth + 1));
}

function nested(title, view) {
  return element('div', { class: 'nested' }, element('p', { class: 'muted small' }, title), view);
}

function fieldItem(resolve, { name, field, open, isRequired }) {
  const schema = resolve(field);
  const head = element('p', { class: 'field-head' }, element('code', {}, name), ' ',
    element('span', { class: 'type' }, typeText(resolve, field)));
  if (isRequired) head.append(' ', element('span', { class: 'required' }, 'required'));
  const item = element('li', {}, head, ...detailLines(schema));
  if (hasParts(resolve, field)) item.append(schemaView(resolve, field, open));
  return item;
}

function valueLine(resolve, schema) {
  return element('div', {}, element('p', { class: 'type' }, typeText(resolve, schema)), ...detailLines(schema));
}

/** Returns the description and the limits of a value, each as a block, where there are any. */
export function detailLines(schema) {
  const limits = limitTexts(schema);
  const lines = schema.description ? [prose(schema.description)] : [];
  if (limits.length > 0) lines.push(element('p', { class: 'muted small limits' }, limits.join(' · ')));
  return lines;
}

/** Names the type of a value in words: `string or null`, `array of Entry`. */
export function typeText(resolve, reference) {
  const schema = resolve(reference);
  const choices = choicesOf(schema);
  if (choices.length > 0) return [...new Set(choices.map((choice) => briefName(resolve, choice)))].join(' or ');
  const types = typesOf(schema);
  if (types.includes('array') && schema.items) {
    const rest = types.filter((type) => type !== 'array').map((type) => ` or ${type}`).join('');
    return `array of ${briefName(resolve, schema.items)}${rest}`;
  }
  if (types.length === 0) return schema.const === undefined ? 'any' : JSON.stringify(schema.const);
  return types.join(' or ');
}

/** A reference is named and not followed, so a schema that contains itself comes to an end. */
function briefName(resolve, reference) {
  return reference.$ref ? nameOfReference(reference.$ref) : typeText(resolve, reference);
}

function limitTexts(schema) {
  const texts = [
    schema.format,
    rangeText(schema.minimum, schema.maximum, ''),
    rangeText(schema.minLength, schema.maxLength, ' characters'),
    rangeText(schema.minItems, schema.maxItems, ' items'),
    schema.pattern && `pattern ${schema.pattern}`,
    schema.enum && `one of ${schema.enum.map((value) => JSON.stringify(value)).join(', ')}`,
    schema.default !== undefined && `default ${JSON.stringify(schema.default)}`,
    schema.deprecated && 'deprecated',
  ];
  return texts.filter(Boolean);
}

function rangeText(low, high, unit) {
  if (low === undefined && high === undefined) return '';
  if (high === undefined) return `≥ ${formatNumber(low)}${unit}`;
  if (low === undefined) return `≤ ${formatNumber(high)}${unit}`;
  return `${formatNumber(low)} to ${formatNumber(high)}${unit}`;
}
