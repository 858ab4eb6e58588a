"""Folders and files that only we may have made: where anybody can write, the first to take a name could be a stranger.

A link is never followed, and what is there must belong to who is expected and be closed to others. It is looked at
through a descriptor, so that nothing else can be put in its place between the look and the use.
"""

import os
import pwd
import stat
from collections.abc import Collection
from pathlib import Path

from scoreboard.errors import StartupError

FOLDER_MODE = 0o700
FILE_MODE = 0o600
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def make_folder(path: Path, owner: pwd.struct_passwd | None, owners: Collection[int]) -> None:
    """Make a folder, or check the one that is there; afterwards it belongs to an owner.

    :param owner: whom to give it to; None for ourselves.
    :param owners: ids of users whose folder may be there already.
    :raises StartupError: if something else is there.
    :raises OSError: if it can't be made.
    """
    try:
        path.mkdir(mode=FOLDER_MODE)
    except FileExistsError:
        check_folder(path, owners)
    if owner is not None:
        folder = os.open(path, _FOLDER_FLAGS)
        try:
            os.fchown(folder, owner.pw_uid, owner.pw_gid)
        finally:
            os.close(folder)


def check_folder(path: Path, owners: Collection[int]) -> None:
    """:raises StartupError: if it is not a folder of one of these users that nobody else can enter."""
    try:
        folder = os.open(path, _FOLDER_FLAGS)
    except OSError as exc:
        kind = "is a link" if path.is_symlink() else f"can't be opened ({exc.strerror})"
        raise _refusal(path, kind) from exc
    try:
        found = os.fstat(folder)
    finally:
        os.close(folder)
    if found.st_uid not in owners:
        raise _refusal(path, f"belongs to another user (id {found.st_uid})")
    if found.st_mode & 0o077:
        raise _refusal(path, f"has mode {stat.S_IMODE(found.st_mode):o}: others can enter it", f"chmod 700 {path}")


def open_file(path: Path, flags: int) -> int:
    """A descriptor of a file of ours, which is not inherited; made, where the flags say so, for ourselves only.

    :raises StartupError: if it is a link, not a plain file, or another user's.
    :raises OSError: if it can't be opened.
    """
    try:
        file = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, FILE_MODE)
    except OSError as exc:
        if path.is_symlink():
            raise _refusal(path, "is a link") from exc
        raise
    found = os.fstat(file)
    try:
        if not stat.S_ISREG(found.st_mode):
            raise _refusal(path, "is not a plain file")
        if found.st_uid not in (os.geteuid(), 0):
            raise _refusal(path, f"belongs to another user (id {found.st_uid})")
    except StartupError:
        os.close(file)
        raise
    return file


def read_secret(path: Path) -> str:
    """What a file of ours holds that nobody else may read.

    :raises StartupError: if others can.
    """
    with open(open_file(path, os.O_RDONLY), encoding="ascii") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise _refusal(path, f"is a secret with mode {mode:o}: others can use it", f"chmod 600 {path}")
        return file.read().strip()


def _refusal(path: Path, why: str, mend: str = "") -> StartupError:
    return StartupError(f"{path} {why}. If it is yours and nobody changed it: {mend or 'remove it'}, and start again")
