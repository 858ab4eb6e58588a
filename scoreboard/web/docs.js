/*
 * The API documentation: draws /openapi.json, from this server only. Headings
 * that this page adds have ids with a hyphen, since the snake_case ids belong
 * to the error codes: problem documents link to /docs#rate_limited and the like.
 */

import { curlView } from './curl.js';
import { byId, element } from './dom.js';
import { createResolver, groupOperations } from './openapi.js';
import { prose } from './prose.js';
import { detailLines, schemaView, typeText } from './schema.js';
import { tryItView } from './tryit.js';

const TOKEN_TEXT = { required: 'Needs a token', optional: 'Token optional', none: '' };
/* On a narrow screen the contents would push the text off the first page. */
const NARROW = '(max-width: 60rem)';

async function start() {
  byId('docs-menu').open = !matchMedia(NARROW).matches;
  try {
    const answer = await fetch('/openapi.json');
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    draw(await answer.json());
  } catch (error) {
    byId('docs-main').replaceChildren(element('p', { class: 'load-state problem', role: 'alert' },
      `Cannot show /openapi.json: ${error.message}.`));
    throw error;
  }
}

function draw(root) {
  const resolve = createResolver(root);
  const groups = groupOperations(root);
  const codes = Object.entries(root['x-problem-codes'] ?? {});
  byId('docs-main').replaceChildren(
    introduction(root.info ?? {}),
    ...groups.map((group) => groupSection(resolve, group)),
    codeSection(codes));
  byId('docs-nav').replaceChildren(...groups.map(navigationGroup), navigationLink('error-codes', 'Error codes'));
  // The target did not exist yet when the browser followed the address's fragment.
  if (location.hash) location.replace(location.hash);
}

function introduction({ title = 'API', version = '', description = '' }) {
  const heading = element('h1', {}, title, ' ', element('span', { class: 'version muted' }, version));
  return element('header', { class: 'intro' }, heading, prose(description));
}

function tagId(name) {
  return `tag-${name.toLowerCase().replace(/[^a-z0-9]+/g, '-')}`;
}

function groupSection(resolve, { name, description, operations }) {
  return element('section', { 'aria-labelledby': tagId(name) },
    element('h2', { id: tagId(name) }, name),
    ...(description ? [prose(description)] : []),
    ...operations.map((operation) => operationCard(resolve, operation)));
}

function operationCard(resolve, operation) {
  const heading = element('h3', {},
    methodBadge(operation.method), ' ', element('a', { href: `#${operation.id}` }, breakablePath(operation.path)));
  const card = element('article', { id: operation.id, class: 'card operation' }, heading);
  if (operation.summary) card.append(element('p', { class: 'summary' }, operation.summary));
  const notes = [TOKEN_TEXT[operation.token], operation.isDeprecated ? 'Deprecated' : ''].filter(Boolean);
  if (notes.length > 0) card.append(element('p', { class: 'token small' }, notes.join(' · ')));
  if (operation.description) card.append(prose(operation.description));
  card.append(curlView(resolve, operation));
  if (operation.method === 'GET') card.append(tryItView(resolve, operation));
  if (operation.parameters.length > 0) card.append(parameterTable(resolve, operation.parameters));
  if (operation.body) card.append(bodyPart(resolve, operation.body));
  card.append(responsePart(resolve, operation.responses));
  return card;
}

function methodBadge(method) {
  return element('span', { class: 'method', 'data-method': method }, method);
}

/** Lets a long path wrap after its slashes only. */
function breakablePath(path) {
  const code = element('code', { class: 'path' });
  for (const step of path.split(/(?<=\/)/)) code.append(step, element('wbr'));
  return code;
}

function parameterTable(resolve, parameters) {
  const rows = parameters.map((parameter) => parameterRow(resolve, parameter));
  const head = element('tr', {}, ...['Name', 'In', 'Meaning'].map((text) => element('th', { scope: 'col' }, text)));
  return element('div', { class: 'part' }, element('h4', {}, 'Parameters'),
    element('table', { class: 'parameters' }, element('thead', {}, head), element('tbody', {}, ...rows)));
}

function parameterRow(resolve, parameter) {
  const { description: schemaText, ...limits } = resolve(parameter.schema);
  const description = parameter.description ?? schemaText;
  const meaning = element('td', {}, element('span', { class: 'type' }, typeText(resolve, parameter.schema)),
    ...detailLines({ ...limits, description }));
  if (parameter.required) meaning.firstChild.after(' ', element('span', { class: 'required' }, 'required'));
  return element('tr', {}, element('th', { scope: 'row' }, element('code', {}, parameter.name)),
    element('td', { class: 'muted' }, parameter.in), meaning);
}

function bodyPart(resolve, { type, media, description, isRequired }) {
  const title = element('h4', {}, 'Request body ', element('span', { class: 'muted small' }, type));
  if (isRequired) title.append(' ', element('span', { class: 'required' }, 'required'));
  return element('div', { class: 'part' }, title,
    ...(description ? [prose(description)] : []), schemaView(resolve, media.schema));
}

function responsePart(resolve, responses) {
  return element('div', { class: 'part' }, element('h4', {}, 'Responses'),
    ...responses.map((response) => responseView(resolve, response)));
}

/** A response without a body or headers has nothing to unfold. */
function responseView(resolve, { status, description = '', content = {}, headers = {} }) {
  const kind = /^[23]/.test(status) ? 'fine' : 'error';
  const title = [element('span', { class: 'status', 'data-kind': kind }, status), ' ', description];
  const details = [headerList(resolve, headers), ...Object.entries(content).map((entry) => mediaView(resolve, entry))].filter(Boolean);
  if (details.length === 0) return element('p', { class: 'response' }, ...title);
  return element('details', { class: 'response' }, element('summary', {}, ...title), ...details);
}

function headerList(resolve, headers) {
  const items = Object.entries(headers).map(([name, reference]) => element('li', {},
    element('code', {}, name), ' ', resolve(reference).description ?? ''));
  return items.length > 0 ? element('ul', { class: 'headers small' }, ...items) : null;
}

function mediaView(resolve, [type, media]) {
  const view = element('div', { class: 'media' }, element('p', { class: 'muted small' }, type));
  if (media.schema) view.append(schemaView(resolve, media.schema));
  const example = media.example ?? resolve(Object.values(media.examples ?? {})[0]).value;
  if (example !== undefined) {
    const text = typeof example === 'string' ? example : JSON.stringify(example, null, 2);
    view.append(element('pre', { tabindex: '0' }, text));
  }
  return view;
}

function codeSection(codes) {
  const sorted = [...codes].sort(([, a], [, b]) => a.status - b.status);
  const rows = sorted.map(([code, { status, title, description }]) => element('tr', { id: code },
    element('td', {}, element('span', { class: 'status', 'data-kind': 'error' }, String(status))),
    element('th', { scope: 'row' }, element('a', { href: `#${code}` }, element('code', {}, code))),
    element('td', {}, title ?? '', ...(description ? [prose(description)] : []))));
  const head = element('tr', {}, ...['Status', 'Code', 'Meaning'].map((text) => element('th', { scope: 'col' }, text)));
  return element('section', { 'aria-labelledby': 'error-codes' },
    element('h2', { id: 'error-codes' }, 'Error codes'),
    element('p', {}, 'Errors are ', element('code', {}, 'application/problem+json'), '; a program should look at ', element('code', {}, 'code'), '.'),
    element('div', { class: 'card codes' }, element('table', {}, element('thead', {}, head), element('tbody', {}, ...rows))));
}

function navigationGroup({ name, operations }) {
  const links = operations.map((operation) => element('li', {}, navigationLink(operation.id,
    methodBadge(operation.method), ' ', element('span', {}, operation.summary || operation.path))));
  return element('div', { class: 'nav-group' }, navigationLink(tagId(name), name), element('ul', {}, ...links));
}

function navigationLink(id, ...content) {
  return element('a', { href: `#${id}` }, ...content);
}

start();
