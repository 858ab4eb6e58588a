"""The command ``scoreboard``, also as ``python -m scoreboard``."""

import sys

from scoreboard.endings import catch_signals, end_well, hold_standard_files, ignore_signals


def main() -> None:
    """Run the command of the command line and exit."""
    hold_standard_files()
    catch_signals()
    status = end_well(_run, serves=sys.argv[1:2] == ["serve"])
    ignore_signals()
    sys.exit(status)


def _run() -> int:
    # Here, for it takes most of a start: a signal meanwhile ends the command as any other does.
    from scoreboard.cli import main as run

    return run(sys.argv[1:])


if __name__ == "__main__":
    main()
