/* A form that sends a GET operation to this server and shows the answer, within bounds. */

import { element, formatNumber } from './dom.js';
import { statedExample } from './openapi.js';

const ANSWER_CHARACTERS_MAX = 65536;
const ANSWER_MS_MAX = 15000;

export function tryItView(resolve, operation) {
  const fields = operation.parameters
    .filter((parameter) => parameter.in !== 'cookie')
    .map((parameter) => parameterField(resolve, operation, parameter));
  const token = operation.token === 'none' ? null : tokenField(operation);
  const send = element('button', { type: 'submit', class: 'primary' }, 'Send');
  const stop = element('button', { type: 'button', hidden: '' }, 'Stop');
  const status = element('p', { class: 'small', role: 'status' });
  const body = element('pre', { class: 'answer', tabindex: '0', hidden: '' });
  const form = element('form', { class: 'try-form' },
    ...fields.map((field) => field.node), ...(token ? [token.node] : []),
    element('div', { class: 'try-buttons' }, send, stop));

  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const abort = new AbortController();
    stop.onclick = () => abort.abort();
    send.disabled = true;
    stop.hidden = false;
    await showAnswer(buildRequest(operation, fields, token), abort, status, body);
    send.disabled = false;
    stop.hidden = true;
  });
  return element('details', { class: 'try' }, element('summary', {}, 'Try it'), form, status, body);
}

function parameterField(resolve, operation, parameter) {
  const id = `${operation.id}-${parameter.in}-${parameter.name}`;
  const isNeeded = parameter.required === true || parameter.in === 'path';
  const input = element('input', { id, type: 'text', autocomplete: 'off', spellcheck: 'false', autocapitalize: 'none' });
  input.required = isNeeded;
  const example = statedExample(resolve, parameter);
  if (isNeeded && example !== undefined) input.value = example;
  const fallback = resolve(parameter.schema).default;
  if (fallback !== undefined && fallback !== null) input.placeholder = String(fallback);
  return { parameter, input, node: labelled(id, parameter.name, input) };
}

/** The token stays in the field: it is not stored anywhere. */
function tokenField(operation) {
  const id = `${operation.id}-token`;
  const input = element('input', { id, type: 'password', autocomplete: 'off' });
  input.required = operation.token === 'required';
  return { input, node: labelled(id, 'Bearer token', input) };
}

function labelled(id, text, input) {
  return element('div', { class: 'try-field' }, element('label', { for: id }, text), input);
}

function buildRequest(operation, fields, token) {
  let path = operation.path;
  const query = new URLSearchParams();
  const headers = {};
  for (const { parameter, input } of fields) {
    if (input.value === '') continue;
    if (parameter.in === 'path') path = path.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (parameter.in === 'query') query.set(parameter.name, input.value);
    else headers[parameter.name] = input.value;
  }
  if (token?.input.value) headers.Authorization = `Bearer ${token.input.value}`;
  const text = query.toString();
  return { address: text === '' ? path : `${path}?${text}`, headers };
}

async function showAnswer({ address, headers }, abort, status, body) {
  const started = performance.now();
  const timer = setTimeout(() => abort.abort(), ANSWER_MS_MAX);
  status.textContent = `GET ${address}`;
  body.hidden = true;
  body.textContent = '';
  try {
    const answer = await fetch(address, { headers, cache: 'no-store', signal: abort.signal });
    const took = formatNumber(Math.round(performance.now() - started));
    status.textContent = `${answer.status} ${answer.statusText} · ${answer.headers.get('Content-Type') ?? 'no body'} · ${took} ms`;
    await readInto(body, answer, abort);
  } catch (error) {
    // Stopping is how a stream is meant to end here, so it is no failure.
    if (error.name !== 'AbortError') status.textContent = `No answer: ${error.message}`;
  } finally {
    clearTimeout(timer);
  }
}

/** Shows the body as it arrives, so that a stream can be watched, up to a bound. */
async function readInto(node, answer, abort) {
  if (answer.body === null) return;
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
    node.append(chunk.value);
    node.hidden = false;
    if (node.textContent.length > ANSWER_CHARACTERS_MAX) {
      node.textContent = `${node.textContent.slice(0, ANSWER_CHARACTERS_MAX)}\n… cut here`;
      abort.abort();
      return;
    }
  }
  if (/json/.test(answer.headers.get('Content-Type') ?? '')) node.textContent = indentJson(node.textContent);
}

function indentJson(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
