"""The commands. Lines for people go to standard output, logs and errors to standard error."""

import argparse
import json
import os
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

import uvloop

from scoreboard import __version__
from scoreboard.app import token_claims
from scoreboard.auth import SCOPES, SYMMETRIC, check_scopes, sign_token
from scoreboard.config import PREFIX, SETTINGS, Config, load_config
from scoreboard.errors import EXIT_CANNOT_RUN, RanksUnavailable, ScoreboardError, StartupError
from scoreboard.ledger import Ledger
from scoreboard.logs import configure_logs
from scoreboard.metrics import Metrics
from scoreboard.migrations import migrate
from scoreboard.model import ID_CHARS_MAX, validate_user_id
from scoreboard.names import nfc
from scoreboard.progress import progress_bar
from scoreboard.ranks import Ranks
from scoreboard.repair import Repair
from scoreboard.serve import open_stores, serve, signing_key
from scoreboard.transfers import add_transfers
from scoreboard.verify import Difference, verify

EXIT_DIFFERENCES = 1
VERIFY_STATEMENT_TIMEOUT_S = 600.0
"""A slice ends at a user, so it holds all events of that one, and the number of totals is counted in one piece."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 differences found, 2 can't run."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        config = load_config(
            os.environ,
            overrides={
                "HOST": getattr(options, "host", None),
                "PORT": getattr(options, "port", None),
                "WORKERS": getattr(options, "workers", None),
                "DATA_DIR": getattr(options, "data_dir", None),
            },
            terminal=sys.stderr.isatty(),
        )
        configure_logs(config.log_level, config.log_format)
        status = options.run(config, options)
    except (StartupError, ScoreboardError, RanksUnavailable) as exc:
        print(f"scoreboard: {exc}", file=sys.stderr)
        sys.exit(EXIT_CANNOT_RUN)
    sys.exit(status)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    settings = "\n".join(f"  {PREFIX}{name:20} {text}" for name, text in SETTINGS.items())
    parser = argparse.ArgumentParser(
        prog="scoreboard",
        description="A real-time scoreboard server.",
        epilog=f"Environment variables, each also as NAME_FILE; defaults in parentheses:\n{settings}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"scoreboard {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    data_dir = argparse.ArgumentParser(add_help=False)
    data_dir.add_argument(
        "--data-dir", metavar="DIR", help="where the embedded stores and the signing secret live (per user)"
    )

    command = commands.add_parser("serve", parents=[data_dir], help="run the server")
    command.add_argument("--host", help="address to listen on (127.0.0.1)")
    command.add_argument("--port", help="port to listen on, 0 for any free one (8000)")
    command.add_argument("--workers", metavar="N", help="processes that share the port and serve, for more cores (1)")
    command.set_defaults(run=run_serve)

    command = commands.add_parser("migrate", parents=[data_dir], help="bring the database schema up to date")
    command.set_defaults(run=run_migrate)

    command = commands.add_parser("token", parents=[data_dir], help="print a signed token")
    command.add_argument("--user", required=True, help="the user id it is for")
    command.add_argument("--scope", default="", help=f"scopes with spaces between, of {', '.join(SCOPES)} (none)")
    command.add_argument("--ttl", type=_seconds, default=3600, metavar="SECONDS", help="how long it holds (3600)")
    command.set_defaults(run=run_token)

    command = commands.add_parser(
        "verify", parents=[data_dir], help="check that ledger sums = totals = ranking; exit 1 if not"
    )
    command.add_argument("--json", action="store_true", help="print the result as JSON")
    command.set_defaults(run=run_verify)

    command = commands.add_parser(
        "rebuild", parents=[data_dir], help="rebuild the ranking from PostgreSQL, also while serving"
    )
    command.add_argument("--board", help="only this board")
    command.add_argument(
        "--new-epoch",
        action="store_true",
        help="first begin a new history, so that readers start over: for a database that was restored from a backup "
        "while no server ran and Redis was lost too, when nothing is left that could tell by itself",
    )
    command.set_defaults(run=run_rebuild)
    add_transfers(commands, data_dir)
    return parser


def _seconds(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 10 * 365 * 86_400:
        raise argparse.ArgumentTypeError(f"{text} is not 1 to {10 * 365 * 86_400} seconds")
    return value


def run_serve(config: Config, options: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    _run(serve(config, announce=lambda line: print(line, flush=True)))
    return 0


def run_migrate(config: Config, options: argparse.Namespace) -> int:
    """Apply the migrations that are missing."""

    async def run() -> list[str]:
        async with open_stores(config) as (database_url, _):
            return await migrate(database_url)

    applied = _run(run())
    for name in applied:
        print(f"Applied migration {name}")
    if not applied:
        print("The schema is up to date")
    return 0


def run_token(config: Config, options: argparse.Namespace) -> int:
    """Print a token."""
    user_id = nfc(options.user, ID_CHARS_MAX)
    wrong = validate_user_id(user_id)
    if wrong:
        raise StartupError(f"--user: {wrong}")
    check_scopes(options.scope)
    if config.jwt_public_key or not set(config.jwt_algorithms) & SYMMETRIC:
        raise StartupError("tokens are signed elsewhere: only the public key is configured here")
    if config.embedded and not config.jwt_secret:
        config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    print(
        sign_token(
            signing_key(config),
            config.jwt_algorithms[0],
            user_id=user_id,
            scope=options.scope,
            ttl_s=options.ttl,
            extra=token_claims(config),
        )
    )
    return 0


def run_verify(config: Config, options: argparse.Namespace) -> int:
    """Check every board and list what differs."""

    async def run() -> tuple[int, list[Difference]]:
        async with open_stores(config) as urls:
            await migrate(urls[0])
            ledger = await Ledger.open(urls[0], statement_timeout_s=VERIFY_STATEMENT_TIMEOUT_S)
            ranks = Ranks.open(urls[1])
            try:
                with progress_bar("Verifying", " checks") as report:
                    return await verify(ledger, ranks, report)
            finally:
                await ranks.close()
                await ledger.close()

    boards, differences = _run(run())
    if options.json:
        listed = [{"board": d.board, "what": d.what, "detail": d.detail} for d in differences]
        print(json.dumps({"boards": boards, "ok": not differences, "differences": listed}, indent=2))
    else:
        for difference in differences:
            print(f"{difference.board}: {difference.what}: {difference.detail}")
        print(f"{boards} boards verified, {len(differences)} differences")
    return EXIT_DIFFERENCES if differences else 0


def run_rebuild(config: Config, options: argparse.Namespace) -> int:
    """Rebuild rankings."""

    async def run() -> list[str]:
        async with open_stores(config) as urls:
            await migrate(urls[0])
            ledger, ranks = await Ledger.open(urls[0]), Ranks.open(urls[1])
            repair = Repair(ledger, ranks, Metrics(), on_healed=lambda board: None)
            try:
                boards = [await ledger.read_board(options.board)] if options.board else await ledger.list_all_boards()
                for board in boards:
                    if options.new_epoch:
                        await ledger.renew_epoch(board.board_id, board.epoch)
                    await repair.rebuild(board.board_id)
                    await repair.heal(board.board_id)
                return [board.board_id for board in boards]
            finally:
                await ranks.close()
                await ledger.close()

    for board in _run(run()):
        print(f"Rebuilt the ranking of board {board}")
    return 0


def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return uvloop.run(coroutine)
