"""What an address is refused because of what came from it before: failed authentications and misses.

A *miss* is a question without a token for what does not exist: the stores had to look, and nothing can be kept of the
answer. An address that used up its misses is refused what may not exist. Boards go on that this server follows or has
read, with their pages and streams, and so do the list of boards and whoever has a valid token: a classroom has one
address, and one of its pupils can use up all its misses. A failed authentication beyond the bound is
refused as such: whoever has a valid token is not affected, however much garbage comes from the same address.
"""

from sanic.request import Request

from scoreboard.errors import (
    Inapplicable,
    NotFound,
    ScoreboardError,
    TooManyFailures,
    TooManyMisses,
    Unauthenticated,
)
from scoreboard.http.addresses import Address
from scoreboard.http.admission import FAILURES_WINDOW_S
from scoreboard.http.parse import DEFAULT_BOARD, parse_leniently
from scoreboard.http.services import Services
from scoreboard.model import ALL

READS = frozenset({"GET", "HEAD"})
LOOKUPS = "/api/"
"""What is read below it may need a store."""
STREAM_ROUTE = "/api/leaderboard/stream"
BOARD_ROUTE = "/api/boards/<board>"
OF_A_BOARD = frozenset({"/api/leaderboard", STREAM_ROUTE, BOARD_ROUTE})
"""Routes that go on where their board is known, unless they ask for COSTLY."""
LISTS = frozenset({"/api/boards"})
"""Routes that look for nothing that may not be there."""
COSTLY = ("asOf", "group", "period")


def check_misses(services: Services, request: Request, route: str, client: Address) -> None:
    """:raises TooManyMisses: if the address used up its misses and the request asks for what may not exist."""
    if route == STREAM_ROUTE:
        return  # its handler asks: an EventSource that is answered 429 gives up for good
    wait_s = refuse_miss(services, request, route, client)
    if not wait_s:
        return
    rate = services.misses.rate
    assert rate is not None
    raise TooManyMisses(
        f"address {client.text} asked too often for what does not exist: {rate.quota} times in {rate.window_s} s are "
        "answered",
        retry_after_s=wait_s,
        quota=rate.quota,
        window_s=rate.window_s,
    )


def refuse_miss(services: Services, request: Request, route: str, client: Address) -> float:
    """Whether a request is refused for the misses of its address, which is counted and logged: the seconds until there
    may be one again, or 0 if it is not."""
    if not _is_lookup(request, route) or route in LISTS:
        return 0.0
    wait_s = services.misses.wait_s(client)
    if not wait_s or (route in OF_A_BOARD and _is_known(services, request)) or _is_signed_in(services, request):
        return 0.0
    services.misses.refuse(client)
    services.metrics.limited.labels("misses").inc()
    return wait_s


def count_failure(
    services: Services, request: Request, route: str, client: Address, error: ScoreboardError
) -> ScoreboardError:
    """Count a failure of a request against its address; what it is to be told, which may be another failure."""
    if isinstance(error, NotFound | Inapplicable):
        if _is_lookup(request, route) and not _is_signed_in(services, request):
            services.misses.add(client)
        return error
    if not isinstance(error, Unauthenticated) or not error.token_was_sent:
        return error
    wait_s = services.failures.add(client)
    if wait_s is None:
        return error
    services.metrics.limited.labels("authentication").inc()
    return TooManyFailures(
        f"address {client.text} sent {services.failures.window_max} tokens within {FAILURES_WINDOW_S} s that were not "
        f"accepted, and this one is not either ({error.detail})",
        retry_after_s=wait_s,
        quota=services.failures.window_max,
        window_s=FAILURES_WINDOW_S,
    )


def _is_known(services: Services, request: Request) -> bool:
    """Whether the board that is asked for is followed or was read before, with the window that is asked for."""
    if any(parse_leniently(request, name) for name in COSTLY):
        return False
    board = request.match_info.get("board") or parse_leniently(request, "board") or DEFAULT_BOARD
    window = parse_leniently(request, "window") or ALL
    return services.feed.follows(board, window) or services.misses.knows(board, window)


def _is_lookup(request: Request, route: str) -> bool:
    return request.method in READS and route.startswith(LOOKUPS)


def _is_signed_in(services: Services, request: Request) -> bool:
    """Whether a valid token came with the request, also where nothing else depends on one."""
    try:
        services.authenticator.verify(request.headers.get("authorization"))
    except Unauthenticated:
        return False
    return True
