/* A curl command for an operation, and a button that copies it. */

import { element } from './dom.js';
import { exampleOf, statedExample } from './openapi.js';

const COPIED_SHOWN_MS = 1500;

export function curlView(resolve, operation) {
  const code = element('code', {}, curlCommand(resolve, operation));
  const button = element('button', { type: 'button', class: 'copy' }, 'Copy');
  button.addEventListener('click', async () => {
    const isCopied = await copyText(code);
    button.textContent = isCopied ? 'Copied' : 'Select it';
    setTimeout(() => { button.textContent = 'Copy'; }, COPIED_SHOWN_MS);
  });
  return element('figure', { class: 'curl' }, element('pre', { tabindex: '0' }, code), button);
}

function curlCommand(resolve, operation) {
  const options = operation.isStream ? ['curl -N'] : ['curl'];
  if (operation.method !== 'GET') options[0] += ` -X ${operation.method}`;
  options[0] += ` ${quote(location.origin + examplePath(resolve, operation) + exampleQuery(resolve, operation))}`;
  if (operation.token === 'required') options.push('-H "Authorization: Bearer $TOKEN"');
  for (const [name, value] of exampleHeaders(resolve, operation)) options.push(`-H ${quote(`${name}: ${value}`)}`);
  if (operation.body) {
    options.push(`-H ${quote(`Content-Type: ${operation.body.type}`)}`);
    options.push(`-d ${quote(JSON.stringify(exampleOf(resolve, operation.body.media)))}`);
  }
  return options.join(' \\\n  ');
}

function examplePath(resolve, { path, parameters }) {
  return parameters.filter((parameter) => parameter.in === 'path').reduce((filled, parameter) => {
    const value = statedExample(resolve, parameter);
    return value === undefined ? filled : filled.replace(`{${parameter.name}}`, encodeURIComponent(value));
  }, path);
}

/** Optional parameters stay out, unless the document gives one of them an example of its own. */
function exampleQuery(resolve, { parameters }) {
  const query = new URLSearchParams();
  for (const parameter of parameters.filter((candidate) => candidate.in === 'query')) {
    if (parameter.required) query.set(parameter.name, exampleOf(resolve, parameter));
    else if (parameter.example !== undefined) query.set(parameter.name, parameter.example);
  }
  const text = query.toString();
  return text === '' ? '' : `?${text}`;
}

function exampleHeaders(resolve, { parameters }) {
  return parameters
    .filter((parameter) => parameter.in === 'header' && (parameter.required || parameter.example !== undefined))
    .map((parameter) => [parameter.name, exampleOf(resolve, parameter)]);
}

/** Quotes a word for a POSIX shell; plain words stay as they are. */
function quote(word) {
  return /^[\w:/.@%-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** The clipboard API is missing on plain http outside of localhost and may be denied; selecting still works. */
async function copyText(node) {
  try {
    await navigator.clipboard.writeText(node.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(node);
    return document.execCommand('copy');
  }
}
