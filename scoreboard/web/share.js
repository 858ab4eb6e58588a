/*
 * Shares a browser's connections among the boards that its tabs show. Each board has a
 * hub, and the boards seen last have a stream, up to STREAMS_MAX. The others are read
 * now and then until a stream becomes free.
 */

import { createHub } from './hub.js';

/* A browser has six HTTP/1.1 connections to a host; half of them are left for all else. */
export const STREAMS_MAX = 3;
const HUBS_KEPT_MAX = 16;

/** openStream(view, handlers, lastId) and openPoll open a source for a view. take(port, message) takes what a tab says. */
export function createShare(openStream, openPoll) {
  const hubs = new Map();

  function hubOf(view) {
    const key = String(new URLSearchParams(view));
    if (!hubs.has(key)) {
      forgetIdle();
      hubs.set(key, createHub(view, share));
    }
    return hubs.get(key);
  }

  function forgetIdle() {
    for (const [key, hub] of hubs) {
      if (hubs.size < HUBS_KEPT_MAX) return;
      if (!hub.isOpen && !hub.isSeen) {
        hub.end();
        hubs.delete(key);
      }
    }
  }

  /** Gives streams to those seen last. Those that lose theirs come first, so that there is never one too many. */
  function share() {
    const claims = [...hubs.values()].filter((hub) => hub.isOpen || hub.wantsSource);
    claims.sort((a, b) => b.isSeen - a.isSeen || b.seenAt - a.seenAt);
    for (const hub of claims.slice(STREAMS_MAX)) hub.use(hub.isSeen ? openPoll : null);
    for (const hub of claims.slice(0, STREAMS_MAX)) if (hub.isSeen) hub.use(openStream);
  }

  return {
    take(port, message) {
      hubOf(message.view).take(port, message);
    },
  };
}
