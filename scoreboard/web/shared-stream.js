/* The SharedWorker that holds the stream of one view for all tabs of a browser; its name ends in the view's query. */

import { createHub } from './hub.js';
import { openSource } from './source.js';

const view = Object.fromEntries(new URLSearchParams(self.name.slice(self.name.indexOf('?'))));
const hub = createHub((handlers, lastId) => openSource(view, handlers, lastId));

self.onconnect = ({ ports: [port] }) => {
  port.onmessage = ({ data }) => hub.take(port, data);
};
