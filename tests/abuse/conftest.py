"""What abuse needs: how far to go, and a server that somebody else is using."""

import os

import pytest


@pytest.fixture(scope="session")
def full() -> bool:
    """Whether each abuse goes on for as long as one who means it would, which takes minutes."""
    return os.environ.get("SCOREBOARD_TEST_ABUSE") == "full"
