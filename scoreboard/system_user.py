"""The unprivileged system user that the embedded stores run as when root starts them, made when missing.

Servers that start at the same time take turns at making it. useradd looks for the name before it takes its own lock,
so two at once make the user twice: the second entry replaces the first, whose id then owns files and is nobody's.
"""

import fcntl
import os
import pwd
import shutil
import subprocess
from time import monotonic, sleep

from scoreboard.errors import StartupError

SYSTEM_USER = "scoreboard"
USERADD_TIMEOUT_S = 20.0
"""useradd itself waits up to 15 s for others that change the accounts."""
POLL_S = 0.02
SBIN = "/usr/sbin:/sbin"
"""Where useradd is, which not every environment of root's has on its path."""


def find_or_make_system_user() -> pwd.struct_passwd:
    """The account, which is made when there is none. Blocks for up to twice USERADD_TIMEOUT_S.

    :raises StartupError: if there is none and it can't be made.
    """
    account = find_system_user()
    if account is not None:
        return account
    accounts = os.open("/etc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _take_turn(accounts)
        return find_system_user() or _make()
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise _refusal(str(exc)) from exc
    finally:
        os.close(accounts)


def find_system_user() -> pwd.struct_passwd | None:
    """The account, if there is one."""
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        return None


def _make() -> pwd.struct_passwd:
    path = f"{os.environ.get('PATH', os.defpath)}:{SBIN}"
    useradd = shutil.which("useradd", path=path) or "useradd"
    command = [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
    made = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=USERADD_TIMEOUT_S,
        process_group=0,  # not ended by Ctrl-C: it would leave its lock on the accounts
        env={"PATH": path, "LC_ALL": "C"},
    )
    account = find_system_user()
    if account is None:
        raise _refusal(made.stderr.strip())
    return account


def _refusal(why: str) -> StartupError:
    return StartupError(f"PostgreSQL does not run as root, and user {SYSTEM_USER!r} can't be made: {why}")


def _take_turn(file: int) -> None:
    """Lock a file for this process alone, until it is closed. :raises OSError: if others hold it for too long."""
    deadline = monotonic() + USERADD_TIMEOUT_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if monotonic() > deadline:
                raise
            sleep(POLL_S)
