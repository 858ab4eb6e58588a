"""File descriptors: as many as the system lets us have, and some kept back from clients.

A server that runs out of them can't reach its own stores any more, and can't even refuse: connections pile up
unaccepted. So the connections of clients are bounded well below the limit.
"""

import resource

from scoreboard.database import POOLS_MAX
from scoreboard.errors import StartupError
from scoreboard.http.admission import PROBES_MAX, REFUSALS_MAX
from scoreboard.metrics_page import CONNECTIONS_MAX as METRICS_CONNECTIONS_MAX
from scoreboard.ranks import CONNECTIONS_MAX as RANKS_CONNECTIONS_MAX

OTHER_FILES_MAX = 64
"""Logs, the listener, the event loop's own, a subscription, a store's connection that is replaced, a web file."""
FILES_RESERVED = (
    POOLS_MAX + RANKS_CONNECTIONS_MAX + PROBES_MAX + REFUSALS_MAX + METRICS_CONNECTIONS_MAX + OTHER_FILES_MAX
)
REQUEST_CONNECTIONS_MAX = 4_096
"""Connections for requests, besides those of streams."""
CLIENTS_MIN = 64
"""A server that could take fewer connections than this does not start."""
FILES_ASKED_MAX = 1_048_576
"""Where there is no hard limit the kernel still has one, and refuses a soft limit beyond it."""
FILES_FALLBACK = 10_240
"""What macOS grants when it grants no more."""


def raise_file_limit() -> int:
    """Raise this process's soft limit of open files to the hard one, as far as the system lets us; the limit then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (hard, FILES_ASKED_MAX, FILES_FALLBACK):
        if soft == resource.RLIM_INFINITY or (wanted != resource.RLIM_INFINITY and wanted <= soft):
            break
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError):
            continue
        soft = wanted
    return FILES_ASKED_MAX if soft == resource.RLIM_INFINITY else soft


def bound_connections(streams_max: int, files_max: int) -> int:
    """How many client connections may be open at once.

    :raises StartupError: if the limit of open files leaves too few.
    """
    if files_max - FILES_RESERVED < CLIENTS_MIN:
        raise StartupError(
            f"the limit of open files is {files_max}; at least {FILES_RESERVED + CLIENTS_MIN} are needed (ulimit -n)"
        )
    return min(streams_max + REQUEST_CONNECTIONS_MAX, files_max - FILES_RESERVED)
