"""A real Chromium whose tabs and windows are those of a person: a tab behind another one is hidden.

Playwright makes every page of a browser that it launches think that it is seen and has the focus. So the browser is
started here, and Playwright only connects to it and leaves its first context as it is. Contexts made by Playwright are
for pages that may always be seen.
"""

import os
import re
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from queue import Empty, Queue

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
SETTING = "SCOREBOARD_TEST_CHROMIUM"
START_S = 60.0
SWITCHES = (
    "--headless",
    "--remote-debugging-port=0",
    "--no-sandbox",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--mute-audio",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-sync",
    "--disable-extensions",
    "--disable-component-update",
    "--disable-background-networking",
    "--disable-client-side-phishing-detection",
    "--disable-default-apps",
)


class NoChromium(Exception):
    """There is no browser to test the pages with."""


def find_chromium() -> str:
    """:raises NoChromium: if there is none; the message says what to do."""
    named = os.environ.get(SETTING)
    candidates = (named,) if named else NAMES
    for name in candidates:
        path = shutil.which(name)
        if path is not None:
            return path
    raise NoChromium(
        f"tests/browser need Chromium, and there is no {' or '.join(candidates)} on the PATH. Install it (Debian: "
        f"apt-get install --no-install-recommends chromium) or name it in {SETTING}."
    )


class Chromium:
    """A browser process with a profile of its own."""

    def __init__(self, profile: Path) -> None:
        command = [find_chromium(), *SWITCHES, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        found: Queue[str] = Queue()
        self._said: list[str] = []
        threading.Thread(target=self._listen, args=(found,), daemon=True).start()
        try:
            self.endpoint = found.get(timeout=START_S)
        except Empty:
            self.stop()
            raise AssertionError(f"Chromium did not start: {''.join(self._said[-20:])}") from None

    def _listen(self, found: "Queue[str]") -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self._said.append(line)
                match = re.search(r"DevTools listening on (ws://\S+)", line)
                if match:
                    found.put(match[1])

    def stop(self) -> None:
        """End the browser with all its processes."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait(10)
