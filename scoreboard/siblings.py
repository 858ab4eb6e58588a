"""The processes that make up one server: which of them this one is, the memory they share, and asking each other.

Each listens on a socket of its own in a folder that their parent made, and says its metrics to whoever connects. So
whichever process is asked for the metrics answers for all of them.
"""

import asyncio
import mmap
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import structlog

from scoreboard.errors import StartupError
from scoreboard.metrics import merge_pages

ASK_TIMEOUT_S = 3.0
"""A page may be a second in coming: it is not rendered more often than that."""

log = structlog.get_logger(__name__)


class Siblings:
    """All processes of a server. Without arguments: a process alone.

    :param number: which one this is, from 0.
    :param count: how many there are.
    :param memory: what they share.
    :param folder: where their sockets are.
    """

    def __init__(
        self, number: int = 0, count: int = 1, memory: mmap.mmap | None = None, folder: Path | None = None
    ) -> None:
        self.number = number
        self.memory = memory
        self._count = count
        self._folder = folder

    @asynccontextmanager
    async def listening(self, read: Callable[[], Awaitable[bytes]]) -> AsyncIterator[None]:
        """Let siblings ask for this process's metrics."""
        if self._folder is None:
            yield
            return

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                writer.write(await read())
                await writer.drain()
            except OSError:
                pass
            finally:
                writer.close()

        path = self._folder / str(self.number)
        try:
            path.unlink(missing_ok=True)  # of the process whose place this one takes
            server = await asyncio.start_unix_server(answer, path)
        except OSError as exc:
            raise StartupError(f"can't listen at {path}: {exc}; TMPDIR says where such sockets lie") from exc
        async with server:
            yield

    def clear_away(self) -> None:
        """Remove this process's socket, and the folder after the last: for when the parent can't."""
        if self._folder is not None:
            with suppress(OSError):
                (self._folder / str(self.number)).unlink(missing_ok=True)
                self._folder.rmdir()

    async def merge_metrics(self, read_own: Callable[[], Awaitable[bytes]]) -> bytes:
        """A page of metrics of all processes. :param read_own: gives this one's."""
        if self._folder is None:
            return await read_own()
        return await collect_metrics(self._folder, self._count, {self.number: read_own})


async def collect_metrics(
    folder: Path, count: int, own: Mapping[int, Callable[[], Awaitable[bytes]]] | None = None
) -> bytes:
    """A page of metrics of all processes; those that don't answer are left out.

    :param own: gives the page of the process that asks, by its number.
    """

    async def read(number: int) -> bytes:
        return await (own[number]() if own and number in own else _ask_patiently(folder, number))

    pages = await asyncio.gather(*(read(number) for number in range(count)))
    return await merge_pages({str(number): page for number, page in enumerate(pages) if page})


async def _ask_patiently(folder: Path, number: int) -> bytes:
    try:
        return await ask(folder, number)
    except (OSError, TimeoutError) as exc:
        log.warning("sibling_does_not_answer", sibling=number, error=str(exc) or type(exc).__name__)
        return b""


async def ask(folder: Path, number: int) -> bytes:
    """The metrics of a process.

    :raises OSError: if nobody listens; a TimeoutError if it does not answer within ASK_TIMEOUT_S.
    """
    async with asyncio.timeout(ASK_TIMEOUT_S):
        reader, writer = await asyncio.open_unix_connection(folder / str(number))
        try:
            return await reader.read(-1)
        finally:
            writer.close()
