/* The SharedWorker that holds the streams of all boards for all tabs of a browser. */

import { openPoll } from './poll.js';
import { createShare } from './share.js';
import { openSource } from './source.js';

const share = createShare(openSource, openPoll);

self.onconnect = ({ ports: [port] }) => {
  port.onmessage = ({ data }) => share.take(port, data);
};
