"""What abuse needs: how far to go, and a server that somebody else is using."""

import pytest

from tests.abuse.bystander import FULL


@pytest.fixture(scope="session")
def full() -> bool:
    """Whether each abuse goes on for as long as one who means it would."""
    return FULL
