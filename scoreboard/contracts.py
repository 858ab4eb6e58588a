"""Loads every .sql and .lua file and holds its header against its body, once, at start.

A statement or script that has drifted from its header would fail at the first call, perhaps days later; here it
refuses to start instead. What only a server can tell (types, plans) is checked by the integration tests, from the
same parsed headers.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import msgspec

Rows = Literal["one", "maybe", "many", "none"]

SHARED_SCRIPT = "shared"
_PARAM = re.compile(r"\$(\d+) (\w+) (\w+(?:\[\])?)")
_COLUMN = re.compile(r"(\w+) (\w+(?:\[\])?)")


class ContractError(Exception):
    """A header does not say what its body does; the message names the file and the difference."""


class Query(msgspec.Struct, frozen=True):
    """One SQL statement: its text, and the types its header promises, in order."""

    name: str
    text: str
    parameters: tuple[str, ...]
    rows: Rows
    columns: tuple[tuple[str, str], ...]


class Script(msgspec.Struct, frozen=True):
    """One Lua script, its SHA-1 as EVALSHA wants it, and the number of keys (None: any number)."""

    name: str
    text: str
    sha: str
    keys: int | None


class Migration(msgspec.Struct, frozen=True):
    """One forward step of the schema; ``checksum`` is the SHA-256 of its text."""

    version: int
    name: str
    text: str
    checksum: str


@cache
def load_queries() -> Mapping[str, Query]:
    """Every statement under ``sql/queries``, by name.

    :raises ContractError: if a header and its body differ.
    """
    texts = _read(_sql_folder() / "queries", ".sql")
    return MappingProxyType({name: parse_query(name, text) for name, text in texts})


@cache
def load_scripts() -> Mapping[str, Script]:
    """Every script under ``scoreboard/lua``, by name, with what they share before it.

    :raises ContractError: if a header and its body differ.
    """
    texts = dict(_read(files("scoreboard") / "lua", ".lua"))
    shared = texts.pop(SHARED_SCRIPT)
    return MappingProxyType({name: parse_script(name, text, shared) for name, text in texts.items()})


def load_migrations() -> list[Migration]:
    """Every migration in order of its version.

    :raises ContractError: if the versions are not 1, 2, 3, …
    """
    migrations = [
        Migration(int(name.split("_")[0]), name, text, hashlib.sha256(text.encode()).hexdigest())
        for name, text in _read(_sql_folder() / "migrations", ".sql")
    ]
    versions = [migration.version for migration in migrations]
    if versions != list(range(1, len(migrations) + 1)):
        raise ContractError(f"sql/migrations: versions are {versions}, not 1, 2, 3, …")
    return migrations


def parse_query(name: str, text: str) -> Query:
    """Parse a statement's header and check it.

    :raises ContractError: if Params or Returns is missing, or the parameters are not those of the body.
    """
    header, body = _split(text, "--")
    params, returns = _field(name, header, "Params"), _field(name, header, "Returns")
    declared = [(int(number), kind) for number, _, kind in _PARAM.findall(params)]
    used = sorted({int(number) for number in re.findall(r"\$(\d+)", body)})
    if [number for number, _ in declared] != used or used != list(range(1, len(used) + 1)):
        raise ContractError(f"{name}.sql: header declares {params!r}, the body uses {used}")
    shape = re.fullmatch(r"(one|maybe|many|none)(?: \((.*)\))?", returns)
    if shape is None:
        raise ContractError(f"{name}.sql: Returns is {returns!r}, not one|maybe|many|none (columns)")
    if ";" in body:
        raise ContractError(f"{name}.sql: one statement a file, without a semicolon")
    columns = tuple(_COLUMN.findall(shape[2] or ""))
    rows: Rows = shape[1]  # type: ignore[assignment]  # the pattern allows these four only
    return Query(name, text, tuple(kind for _, kind in declared), rows, columns)


def parse_script(name: str, text: str, shared: str = "") -> Script:
    """Parse a script's header and check it.

    :param shared: functions that the script uses.
    :raises ContractError: if the keys or arguments of header and body differ, or Returns is missing.
    """
    header, body = _split(text, "--")
    if not re.search(r"^Returns ", header, re.MULTILINE):
        raise ContractError(f"{name}.lua: the header says nothing of what it Returns")
    for table in ("KEYS", "ARGV"):
        declared = set(re.findall(rf"{table}\[(\w+)", header))
        used = {index for index in re.findall(rf"{table}\[(\w+)", body) if index.isdigit()}
        if not used <= declared:
            raise ContractError(f"{name}.lua: {table} {sorted(used - declared)} not in the header")
        if table in body and not declared:
            raise ContractError(f"{name}.lua: the header lists no {table}")
        numbers = {number for number in declared if number.isdigit()}
        if numbers != {str(n) for n in range(1, len(numbers) + 1)}:
            raise ContractError(f"{name}.lua: {table} of the header are {sorted(declared)}")
    keys = set(re.findall(r"KEYS\[(\w+)", header))
    count = None if "i" in keys else len(keys)
    text = shared + text
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), count)


def _sql_folder() -> Traversable:
    """Installed as a sub-package; in a checkout it lies beside the package."""
    try:
        return files("scoreboard.sql")
    except ModuleNotFoundError:
        return Path(str(files("scoreboard"))).parent / "sql"


def _read(folder: Traversable, suffix: str) -> Iterator[tuple[str, str]]:
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        if entry.name.endswith(suffix):
            yield entry.name.removesuffix(suffix), entry.read_text(encoding="utf-8")


def _split(text: str, comment: str) -> tuple[str, str]:
    lines = text.splitlines()
    end = next((i for i, line in enumerate(lines) if not line.startswith(comment)), len(lines))
    header = "\n".join(line.removeprefix(comment).strip() for line in lines[:end])
    code = "\n".join(re.sub(rf"{comment} .*$", "", line) for line in lines[end:])
    return header, code


def _field(name: str, header: str, field: str) -> str:
    found = re.search(rf"^{field}: (.*)$", header, re.MULTILINE)
    if found is None:
        raise ContractError(f"{name}.sql: the header has no {field}")
    return found[1]
