"""Taking the port: bound sockets for one process, or for several that share it."""

import errno
import socket

from scoreboard.errors import StartupError

BACKLOG = 4_096
"""Connections that wait to be taken, for each socket."""


def bind_listeners(host: str, port: int, count: int) -> list[socket.socket]:
    """As many bound sockets of one address. With several the kernel spreads new connections over those that listen.

    :raises StartupError: if the port is taken.
    """
    # Servers of one user that all share a port would go unnoticed, so the first one asks for it alone.
    first = _bind(host, port, shared=False)
    if count == 1:
        return [first]
    port = first.getsockname()[1]
    first.close()
    listeners: list[socket.socket] = []
    try:
        for _ in range(count):
            listeners.append(bind_shared(host, port))
    except StartupError:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def bind_shared(host: str, port: int) -> socket.socket:
    """One more socket of an address that is shared. It listens at once: until then somebody else could bind too.

    :raises StartupError: if the port is taken.
    """
    listener = _bind(host, port, shared=True)
    listener.listen(BACKLOG)
    return listener


def _bind(host: str, port: int, *, shared: bool) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
    except (OSError, UnicodeError) as exc:
        listener.close()
        raise StartupError(_why_not(exc, host, port)) from exc
    listener.setblocking(False)
    return listener


def _why_not(exc: OSError | UnicodeError, host: str, port: int) -> str:
    match getattr(exc, "errno", None):
        case errno.EADDRINUSE:
            why = "another program has it. Choose another port with --port (0: any that is free)"
        case errno.EACCES:
            why = "that takes privileges. Choose a port from 1024 on with --port"
        case errno.EADDRNOTAVAIL:
            why = "this machine has no such address. Choose one with --host (0.0.0.0: all of its addresses)"
        case _ if isinstance(exc, socket.gaierror | UnicodeError):
            why = "there is no such address. Choose one with --host (127.0.0.1, or 0.0.0.0 for all of this machine's)"
        case _:
            why = str(exc)
    return f"can't listen on {host} port {port}: {why}"
