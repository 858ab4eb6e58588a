"""What an address is refused because of what came from it before: failed authentications and misses.

A *miss* is a question without a token for what does not exist: the stores had to look, and nothing can be kept of the
answer. An address that used up its misses is refused what a store would have to look up; pages and streams of boards
that this server follows go on, and so does whoever has a valid token. A failed authentication beyond the bound is
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
FROM_MEMORY = frozenset({"/api/leaderboard", "/api/leaderboard/stream"})
"""Routes that need none while their board is followed, unless they ask for NEEDS_STORE."""
NEEDS_STORE = ("asOf", "group", "period")


def check_misses(services: Services, request: Request, route: str, client: Address) -> None:
    """:raises TooManyMisses: if the address used up its misses and the request would need a store."""
    if not _is_lookup(request, route):
        return
    wait_s = services.misses.wait_s(client)
    if not wait_s:
        return
    if route in FROM_MEMORY and _is_followed(services, request):
        return
    if _is_signed_in(services, request):
        return
    services.misses.refuse(client)
    services.metrics.limited.labels("misses").inc()
    rate = services.misses.rate
    assert rate is not None
    raise TooManyMisses(
        f"address {client.text} asked too often for what does not exist: {rate.quota} times in {rate.window_s} s are "
        "answered",
        retry_after_s=wait_s,
        quota=rate.quota,
        window_s=rate.window_s,
    )


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


def _is_followed(services: Services, request: Request) -> bool:
    """Whether what is asked for is kept in memory."""
    if any(parse_leniently(request, name) for name in NEEDS_STORE):
        return False
    board, window = parse_leniently(request, "board"), parse_leniently(request, "window")
    return services.feed.follows(board or DEFAULT_BOARD, window or ALL)


def _is_lookup(request: Request, route: str) -> bool:
    return request.method in READS and route.startswith(LOOKUPS)


def _is_signed_in(services: Services, request: Request) -> bool:
    """Whether a valid token came with the request, also where nothing else depends on one."""
    try:
        services.authenticator.verify(request.headers.get("authorization"))
    except Unauthenticated:
        return False
    return True
