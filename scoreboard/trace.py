"""What a request's log line tells beyond its head: from where it came, who asked, and about which board.

Those who find it out (authentication, the parsing of ids) note it while the request is handled, and the line takes it
at the end. A context variable carries it, so that neither has to be handed the request. A note outside of a request is
dropped.
"""

from contextvars import ContextVar


class Trace:
    """What is known of one request so far."""

    __slots__ = ("board", "caller", "client")

    def __init__(self, client: str) -> None:
        self.client = client
        self.caller: str | None = None
        self.board: str | None = None


_current: ContextVar[Trace | None] = ContextVar("trace", default=None)


def begin_trace(client: str) -> Trace:
    """Begin to note what is found out about a request. :param client: its address."""
    trace = Trace(client)
    _current.set(trace)
    return trace


def end_trace() -> Trace | None:
    """What was noted since the beginning, or None if there was none. The next request begins anew."""
    trace = _current.get()
    if trace is not None:
        _current.set(None)
    return trace


def knows_caller() -> bool:
    """Whether a token was verified while the request was handled so far."""
    trace = _current.get()
    return trace is not None and trace.caller is not None


def note_caller(user_id: str) -> None:
    """A token of this user was verified."""
    trace = _current.get()
    if trace is not None:
        trace.caller = user_id


def note_board(board: str) -> None:
    """This is the board asked about."""
    trace = _current.get()
    if trace is not None:
        trace.board = board
