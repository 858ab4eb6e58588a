"""The commands. Lines for people go to standard output, logs and errors to standard error."""

import argparse
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence

import msgspec
import structlog

from scoreboard import __version__
from scoreboard.app import token_claims
from scoreboard.auth import SCOPES, SYMMETRIC, check_scopes, sign_token
from scoreboard.config import PREFIX, SETTINGS, Config, load_config
from scoreboard.connecting import check_redis
from scoreboard.database import BatchRefused
from scoreboard.doctor import Finding, examine
from scoreboard.endings import EXIT_DIFFERENCES, OutputLost, announce, complain, run, say
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
from scoreboard.serve import open_stores, present_signing_key, serve
from scoreboard.transfers import add_transfers
from scoreboard.verify import Difference, verify

log = structlog.get_logger(__name__)

EXIT_STATUSES = """\
Exit status:
  0    done; serve: ended by a signal
  1    verify: something differs; doctor: something is to be mended
  2    can't run, can't go on, or could not look; a line on standard error says why
  143  ended by SIGTERM (130: by Ctrl-C, 129: by SIGHUP); stores that the command started are stopped"""
DOCTOR_WORDS = {"ok": "ok     ", "mend": "MEND   ", "unknown": "UNKNOWN"}
SETTINGS_TITLE = (
    "Environment variables, each also as NAME_FILE, the name of a file with the value; empty is not set; defaults in "
    "parentheses:"
)
TTL_MAX_S = 10 * 365 * 86_400
VERIFY_STATEMENT_TIMEOUT_S = 600.0
"""A slice ends at a user, so it holds all events of that one, and the number of totals is counted in one piece."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command: its exit status."""
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
        status: int = options.run(config, options)
        return status
    except (StartupError, ScoreboardError) as exc:
        complain(str(exc))
    except RanksUnavailable as exc:
        complain(f"Redis went away, or refuses: {exc}")
    except BatchRefused as exc:
        complain(f"PostgreSQL refuses: {exc}")
    except OutputLost:
        raise
    except Exception as exc:
        complain(f"unexpected {type(exc).__name__}: {exc} ({PREFIX}LOG_LEVEL=debug says where)")
        log.debug("command_failed", exc_info=True)
    return EXIT_CANNOT_RUN


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    settings = "\n".join(f"  {PREFIX}{name:20} {text}" for name, text in SETTINGS.items())
    parser = argparse.ArgumentParser(
        prog="scoreboard",
        description="A real-time scoreboard server.",
        epilog=f"{EXIT_STATUSES}\n\n{SETTINGS_TITLE}\n{settings}",
        formatter_class=_KeepLines,
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

    command = commands.add_parser(
        "doctor",
        parents=[data_dir],
        help="check all that the server stands on; exit 1 with what to mend, 2 where it could not look",
        description="Looks at versions, durability, clocks, limits, schema, roles, keys, and how far rankings are "
        "behind, also while serving. Changes nothing.",
    )
    command.add_argument("--json", action="store_true", help="print the result as JSON")
    command.set_defaults(run=run_doctor)
    add_transfers(commands, data_dir)
    for command in commands.choices.values():
        command.epilog, command.formatter_class = EXIT_STATUSES, _KeepLines
    return parser


class _KeepLines(argparse.HelpFormatter):
    """Help whose texts of several lines stay as they are; those of one are wrapped."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


def _seconds(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= TTL_MAX_S:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of seconds from 1 to {TTL_MAX_S}")
    return int(text)


def run_serve(config: Config, options: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    run(serve(config, announce))
    return 0


def run_migrate(config: Config, options: argparse.Namespace) -> int:
    """Apply the migrations that are missing."""

    async def work() -> list[str]:
        async with open_stores(config, sets_up=True) as (database_url, _):
            return await migrate(database_url)

    applied = run(work())
    for name in applied:
        say(f"Applied migration {name}")
    if not applied:
        say("The schema is up to date")
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
    say(
        sign_token(
            present_signing_key(config),
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

    async def work() -> tuple[int, list[Difference]]:
        async with open_stores(config) as urls:
            await migrate(urls[0], auto=config.auto_migrate, purpose="reading")
            await check_redis(urls[1], needed=True)
            ledger = await Ledger.open(urls[0], statement_timeout_s=VERIFY_STATEMENT_TIMEOUT_S)
            ranks = Ranks.open(urls[1])
            try:
                with progress_bar("Verifying", " checks") as report:
                    return await verify(ledger, ranks, report)
            finally:
                await ranks.close()
                await ledger.close()

    boards, differences = run(work())
    if options.json:
        listed = [{"board": d.board, "what": d.what, "detail": d.detail} for d in differences]
        say(json.dumps({"boards": boards, "ok": not differences, "differences": listed}, indent=2))
    else:
        for difference in differences:
            say(f"{difference.board}: {difference.what}: {difference.detail}")
        say(f"{boards} boards verified, {len(differences)} differences")
    return EXIT_DIFFERENCES if differences else 0


def run_rebuild(config: Config, options: argparse.Namespace) -> int:
    """Rebuild rankings."""

    async def work() -> list[str]:
        async with open_stores(config) as urls:
            await migrate(urls[0], auto=config.auto_migrate, purpose="rows" if options.new_epoch else "reading")
            await check_redis(urls[1], needed=True)
            ledger, ranks = await Ledger.open(urls[0]), Ranks.open(urls[1])
            repair = Repair(ledger, ranks, Metrics(), on_healed=lambda board: None)
            try:
                boards = (
                    [await ledger.read_board(options.board)]
                    if options.board is not None
                    else await ledger.list_all_boards()
                )
                for board in boards:
                    if options.new_epoch:
                        await ledger.renew_epoch(board.board_id, board.epoch)
                    await repair.rebuild(board.board_id)
                    await repair.heal(board.board_id)
                return [board.board_id for board in boards]
            finally:
                await ranks.close()
                await ledger.close()

    for board in run(work()):
        say(f"Rebuilt the ranking of board {board}")
    return 0


def run_doctor(config: Config, options: argparse.Namespace) -> int:
    """Say what is well and what is to be mended."""

    async def work() -> list[Finding]:
        try:
            async with open_stores(config) as urls:
                return await examine(config, *urls)
        except StartupError as exc:
            if not options.json:
                raise
            return [Finding("stores", "unknown", str(exc))]  # whoever reads JSON gets some

    findings = run(work())
    count = Counter(finding.status for finding in findings)
    if options.json:
        checks = [msgspec.structs.asdict(finding) for finding in findings]
        say(json.dumps({"ok": count["ok"] == len(findings), "checks": checks}, indent=2))
    else:
        width = max(len(finding.check) for finding in findings)
        for finding in findings:
            say(f"{DOCTOR_WORDS[finding.status]}  {finding.check:{width}}  {finding.found}")
            if finding.mend:
                say(f"{'':9}{'':{width}}  -> {finding.mend}")
        say(f"{count['mend']} to mend, {count['unknown']} could not be looked at, {count['ok']} well")
    if count["unknown"]:
        return EXIT_CANNOT_RUN
    return EXIT_DIFFERENCES if count["mend"] else 0
