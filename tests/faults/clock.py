"""A wall clock that the processes of a test go by, and that can be set while they run."""

import os
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.own_stores import let_pass


class Clock:
    """Processes started with ``environment`` go by it; their monotonic clocks stay as they are.

    Source: https://github.com/wolfcw/libfaketime
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="clock-"))
        self._folder.chmod(0o755)
        self._file = self._folder / "time"
        library = _library()
        if os.geteuid() == 0:
            let_pass(library.parent)
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "TZ": "UTC",
        }
        self.shift(0)

    def __enter__(self) -> "Clock":
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def shift(self, seconds: float) -> None:
        """Go so much before (+) or after (-) the true time."""
        self._set(f"{seconds:+.6f}")

    def go_on_from(self, moment: datetime) -> None:
        """It is this moment now, and time goes on."""
        self.shift(moment.timestamp() - time.time())

    def stop_at(self, moment: datetime) -> None:
        """It is this moment until told otherwise."""
        # The library reads fractions as floats: .998 would become .997999.
        self._set(f"{moment.astimezone(UTC) + timedelta(microseconds=1):%Y-%m-%d %H:%M:%S.%f}")

    def _set(self, text: str) -> None:
        # Replaced as a whole: whoever reads it between would go by the true time.
        draft = self._folder / "draft"
        draft.write_text(text + "\n")
        draft.replace(self._file)


def _library() -> Path:
    spec = find_spec("libfaketime")
    assert spec is not None and spec.origin is not None
    library = Path(spec.origin).parent / "vendor/libfaketime/src/libfaketime.so.1"
    if sys.platform != "linux":
        pytest.skip("clocks are set by preloading a library of Linux")
    return library
