"""What Sanic does when there is nothing to do: ``python -m bench.reference``.

The same web framework, event loop and HTTP parser, with a POST that decodes and echoes JSON and a GET that answers
ready bytes. A figure of the server divided by one of this, measured with the same client in the same minute, says
what the server adds, and holds on another machine better than the figure itself.
"""

import asyncio
import logging
import socket
from typing import Any

import orjson
import uvloop
from sanic import Sanic
from sanic.request import Request
from sanic.response import HTTPResponse

from bench.broadcast import READY

BACKLOG = 1_024
JSON = "application/json"


async def echo(request: Request) -> HTTPResponse:
    """Decode and encode."""
    return HTTPResponse(orjson.dumps(orjson.loads(request.body)), 200, content_type=JSON)


async def ready(request: Request) -> HTTPResponse:
    """Bytes that lie ready, as long as a leaderboard of ten."""
    return HTTPResponse(READY, 200, content_type=JSON)


async def serve() -> None:
    """Serve until killed."""
    app: Sanic[Any, Any] = Sanic("reference", configure_logging=False)
    logging.getLogger("sanic").setLevel(logging.WARNING)
    app.config.MOTD = False
    app.add_route(echo, "/echo", methods=["POST"])
    app.add_route(ready, "/ready", methods=["GET"])
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    server: Any = await app.create_server(
        sock=listener, backlog=BACKLOG, access_log=False, asyncio_server_kwargs={"start_serving": False}
    )
    await server.startup()
    await server.before_start()
    await server.start_serving()
    print("Listening on {}:{}".format(*listener.getsockname()), flush=True)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    uvloop.run(serve())
