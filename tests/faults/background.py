"""An event loop in a thread, so that plain tests can drive proxies, clients and streams that run meanwhile."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

CALL_TIMEOUT_S = 60.0


class Background:
    """Use as a context manager; whatever still runs at its end is cancelled."""

    def __enter__(self) -> "Background":
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(20)
        self.loop.close()

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def run(self, coroutine: Coroutine[Any, Any, Any], within_s: float = CALL_TIMEOUT_S) -> Any:
        """Run a coroutine to its end."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(within_s)

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Start a task and return at once."""

        async def create() -> "asyncio.Task[Any]":
            return asyncio.ensure_future(coroutine)

        return self.run(create())
