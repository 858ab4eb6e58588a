"""nginx with nchan, a publish/subscribe server in C: ``python -m bench.nchan``, where both are installed.

Its readers get the very bytes that those of the bare uvloop broadcast get, snapshot first. A POST here makes an event,
as there, and hands it to nginx; one worker process of nginx serves all streams.
"""

import asyncio
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from time import monotonic

import uvloop

from bench.broadcast import BACKLOG, Board, Connection, encode_snapshot

MODULES = (
    "/usr/lib/nginx/modules",
    "/usr/lib64/nginx/modules",
    "/usr/local/lib/nginx/modules",
    "/usr/share/nginx/modules",
)
FILES_MAX = 20_000
MODULE = "ngx_nchan_module.so"
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.02
CONFIG = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
user root;
worker_processes 1;
worker_rlimit_nofile {files};
load_module {module};
events {{ worker_connections {files}; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  tcp_nodelay on;
  server {{
    listen 127.0.0.1:{port} backlog={backlog};
    keepalive_requests 1000000;
    location = /api/leaderboard/stream {{
      nchan_subscriber http-chunked;
      nchan_subscriber_first_message oldest;
      nchan_subscriber_timeout 0;
      nchan_channel_id board;
    }}
    location = /publish {{
      nchan_publisher;
      nchan_channel_id board;
      nchan_message_buffer_length 1;
    }}
  }}
}}
"""


class NginxFailed(Exception):
    """nginx did not come up."""


def find_nchan() -> tuple[str, Path] | None:
    """nginx and the module, or None where they are not installed."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    module = next((Path(folder) / MODULE for folder in MODULES if (Path(folder) / MODULE).exists()), None)
    return (program, module) if program is not None and module is not None else None


class Publisher:
    """Hands what would be written to each stream to nginx, one message after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read_answers(self) -> None:
        """Take nginx's answers off the connection, until it ends."""
        while await self._reader.read(65_536):
            pass

    def write(self, frame: bytes) -> None:
        """Publish a frame."""
        head = f"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: {len(frame)}\r\n\r\n"
        self._writer.write(head.encode() + frame)


async def serve(program: str, module: Path, folder: Path) -> None:
    """Serve until SIGTERM."""
    port = free_port()
    config = folder / "nginx.conf"
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    values = {"folder": folder, "module": module, "port": port, "backlog": BACKLOG, "files": min(files, FILES_MAX)}
    config.write_text(CONFIG.format(**values), encoding="ascii")
    nginx = subprocess.Popen([program, "-c", str(config), "-p", str(folder), "-e", "stderr"], stdout=subprocess.DEVNULL)
    try:
        publisher = Publisher(*await connect(port, nginx))
        answers = asyncio.create_task(publisher.read_answers())
        publisher.write(encode_snapshot(0))
        board = Board(publisher)
        listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        server = await loop.create_server(lambda: Connection(board), sock=listener, backlog=BACKLOG)
        print(f"Listening on {listener.getsockname()[1]} {port}", flush=True)
        await stop.wait()
        server.close()
        answers.cancel()
    finally:
        nginx.terminate()
        try:
            nginx.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            nginx.kill()
            nginx.wait()


async def connect(port: int, nginx: "subprocess.Popen[bytes]") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to nginx. :raises NginxFailed: if it does not listen in time."""
    deadline = monotonic() + START_TIMEOUT_S
    while True:
        try:
            return await asyncio.open_connection("127.0.0.1", port)
        except OSError as exc:
            if nginx.poll() is not None or monotonic() > deadline:
                raise NginxFailed(f"nginx does not listen on port {port}") from exc
            await asyncio.sleep(POLL_S)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def main() -> None:
    """Serve until killed."""
    found = find_nchan()
    if found is None:
        sys.exit("nginx with nchan is not installed")
    with tempfile.TemporaryDirectory(prefix="scoreboard-nchan-") as folder:
        uvloop.run(serve(*found, Path(folder)))


if __name__ == "__main__":
    main()
