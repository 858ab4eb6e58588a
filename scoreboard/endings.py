"""How a command ends: by a signal, by a reader that hung up, or by itself; always with a status and never with a
traceback.

Signals are caught from the first moment on. Until the package is imported they end the process where it stands; then an
exception lets go of what is held. While a coroutine runs, the first SIGTERM, Ctrl-C or SIGHUP cancels it, so that it
can put away what it holds (stores that it started, above all), and further ones change nothing: they can't end a
command while it stops its stores. Where it would block in a read or a write, the signal is raised there, because the
event loop can't take it.

A handler of our own rather than the event loop's: the loop's are gone as soon as it closes, and Ctrl-C would then end a
command with a traceback.
"""

import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from scoreboard.errors import EXIT_CANNOT_RUN
from scoreboard.shown import printable

if TYPE_CHECKING:
    import asyncio

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
EXIT_DIFFERENCES = 1
EXIT_SIGNAL = 128
"""To which the number of the signal is added."""
CANCEL_AGAIN_S = 2.0
"""A cancellation can be lost (see tasks.py), so it is repeated until the command has ended."""

T = TypeVar("T")


class Ended(BaseException):
    """A signal ended the command. Not an Exception, so that nothing takes it for a failure and goes on.

    :param hint: what to do about what was left unfinished.
    """

    def __init__(self, number: int, hint: str = "") -> None:
        super().__init__(number)
        self.number = number
        self.hint = hint


class OutputLost(Exception):
    """Standard output can't be written."""


def _raise(number: int) -> None:
    raise Ended(number)


_take: Callable[[int], None] = _raise
"""What a signal does now."""
_received = 0
"""The first signal that a coroutine is being ended by."""
_blocks = False
"""Whether the process may be blocked in a read or a write of its own."""


def hold_standard_files() -> None:
    """Put the null device where standard input, output or error is closed: else the next file, perhaps a socket, would
    take its number, and what is printed would go there."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    # The interpreter has none of a file that was closed when it started, and not all code asks for that.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  # for as long as the process lives
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


@contextmanager
def ending_at_once(*, serves: bool) -> Iterator[None]:
    """Let a signal end the process where it stands, as long as nothing is held yet and modules are loaded: those have
    callbacks and destructors, in which an exception would be printed and lost."""

    def end(number: int) -> None:
        if not serves:
            complain(_what_ended(number))
        os._exit(_status_of(number, serves=serves))

    with taking(end):
        yield


def _status_of(number: int, *, serves: bool) -> int:
    return 0 if serves else EXIT_SIGNAL + number


def _what_ended(number: int) -> str:
    return f"ended by {signal.Signals(number).name}"


def catch_signals() -> None:
    """Let signals end the command in order. Those that are to be ignored (nohup, a shell's background) stay so."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: _take(number))


def ignore_signals() -> None:
    """From here on nothing is left to be ended: the interpreter takes the handlers away before the process is gone, and
    a signal in between would change its status."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


@contextmanager
def taking(take: Callable[[int], None]) -> Iterator[None]:
    """Let a function take the signals that come until the end of the context."""
    global _take
    before, _take = _take, take
    try:
        yield
    finally:
        _take = before


@contextmanager
def stop_on_signals() -> "Iterator[asyncio.Event]":
    """An event that the first signal sets, for what ends by itself when it is told to."""
    import asyncio

    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def tell(number: int) -> None:
        loop.call_soon_threadsafe(stop.set)

    catch_signals()
    with taking(tell):
        yield stop


class _Interruptible:
    """Around a call that may block for as long as others please: a signal is raised out of it as Ended."""

    def __enter__(self) -> None:
        global _blocks
        _blocks = True
        if _received:
            _blocks = False
            raise Ended(_received)

    def __exit__(self, *_: object) -> None:
        global _blocks
        _blocks = False


interruptible = _Interruptible()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on an event loop of its own.

    :raises Ended: if a signal came and the coroutine did not get to its end all the same.
    """
    import asyncio

    import uvloop

    cancel: Callable[[], object] = int

    def note(number: int) -> None:
        global _received
        _received = _received or number
        cancel()
        if _blocks:
            raise Ended(number)

    async def watch() -> T:
        # Without a task of our own beside: a serving process ends all tasks but the one that it runs in.
        nonlocal cancel
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        is_cancelled = False

        def cancel_task() -> None:
            if not task.done():
                task.cancel()
                loop.call_later(CANCEL_AGAIN_S, cancel_task)

        def cancel_once() -> None:
            nonlocal is_cancelled
            if not is_cancelled:
                is_cancelled = True
                loop.call_soon_threadsafe(cancel_task)

        cancel = cancel_once
        if _received:
            cancel()
        try:
            return await main
        except BaseException as exc:
            if _received:
                raise Ended(_received) from exc
            raise
        finally:
            cancel = int

    with taking(note):
        try:
            return uvloop.run(watch())
        except asyncio.CancelledError as exc:  # it came just when the coroutine had ended
            raise Ended(_received) from exc


def say(text: str) -> None:
    """Print to standard output. :raises OutputLost: if that can't be written."""
    try:
        print(text)  # noqa: T201  # what commands are for
    except OSError as exc:
        raise OutputLost(exc.strerror) from exc


def announce(text: str) -> None:
    """Print to standard output at once, for whoever reads it: that nobody does, or that it can't be written, is no
    reason not to go on."""
    try:
        print(text, flush=True)  # noqa: T201
    except OSError:
        forget_what_can_not_be_written()


def end_well(command: Callable[[], int], *, serves: bool) -> int:
    """Run a command and return its exit status, whatever ends it.

    :param serves: whether it is the server, whose proper end is a signal.
    """
    try:
        try:
            status = command()
        except SystemExit as exc:  # of the argument parser
            status = exc.code if isinstance(exc.code, int) else EXIT_CANNOT_RUN
        sys.stdout.flush()
    except Ended as ended:
        status = _status_of(ended.number, serves=serves)
        if not serves:
            complain(f"{_what_ended(ended.number)}{ended.hint and '. '}{ended.hint}")
    except (OutputLost, OSError) as exc:
        status = EXIT_CANNOT_RUN
        complain(f"standard output can't be written: {exc.strerror if isinstance(exc, OSError) else exc}")
    forget_what_can_not_be_written()
    return status


def tell(line: str) -> None:
    """Print to standard error, for whoever reads it: that it can't be written is no reason for anything else."""
    try:
        print(line, file=sys.stderr, flush=True)  # noqa: T201  # as commands do
    except OSError:
        pass


def complain(error: str) -> None:
    """Say in a line why it did not work. Values of files and of the command line may be in it."""
    tell(f"scoreboard: {printable(error)}")


def forget_what_can_not_be_written() -> None:
    """Let what standard output or error still hold go nowhere where it can't be written: the interpreter would try
    again at its end, complain, and give another exit status."""
    for number, file in ((1, sys.stdout), (2, sys.stderr)):
        try:
            file.flush()
        except OSError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, number)
            os.close(null)
