"""The command ``scoreboard``, also as ``python -m scoreboard``."""

import sys

from scoreboard.endings import catch_signals, end_well, ending_at_once, hold_standard_files, ignore_signals


def main() -> None:
    """Run the command of the command line and exit."""
    hold_standard_files()
    catch_signals()
    status = end_well(_run, serves=_serves())
    ignore_signals()
    sys.exit(status)


def _serves() -> bool:
    return sys.argv[1:2] == ["serve"]


def _run() -> int:
    with ending_at_once(serves=_serves()):  # it takes most of a start
        from scoreboard.cli import main as run

    return run(sys.argv[1:])


if __name__ == "__main__":
    main()
