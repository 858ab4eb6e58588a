"""What is installed is whole: the package works from any directory, without the checkout."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
COUNT = """
from importlib.resources import files
from scoreboard.contracts import load_migrations, load_queries, load_scripts
web = [entry.name for entry in (files("scoreboard") / "web").iterdir()]
print(len(load_migrations()), len(load_queries()), len(load_scripts()), len(web))
"""


def test_the_installed_package_has_every_sql_lua_and_web_file(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-c", COUNT]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    folders = ("sql/migrations/*.sql", "sql/queries/*.sql", "scoreboard/lua/*.lua", "scoreboard/web/*")
    migrations, queries, scripts, web = (len(list(ROOT.glob(folder))) for folder in folders)
    counts = [migrations, queries, scripts - 1, web]  # one script is a part of the others
    assert done.stdout.split() == [str(count) for count in counts], done.stderr


def test_the_command_explains_itself(tmp_path: Path) -> None:
    for arguments in (
        ["--help"],
        ["serve", "--help"],
        ["token", "--help"],
        ["verify", "--help"],
        ["rebuild", "--help"],
        ["migrate", "--help"],
        ["doctor", "--help"],
        ["export", "--help"],
        ["import", "--help"],
    ):
        command = [sys.executable, "-P", "-m", "scoreboard", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0
        assert "usage: scoreboard" in done.stdout
