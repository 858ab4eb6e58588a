"""The lock files: everything that the image and CI install is pinned with hashes, and is what the package asks for."""

import ast
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
RUNTIME = "deploy/requirements.lock"
LOCKS = {
    "deploy/build.lock": ["deploy/build.in"],
    RUNTIME: ["setup.py"],
    "tests/requirements.lock": ["setup.py", "tests/requirements.in"],
    "tests/lint.lock": ["setup.py", "tests/lint.in"],
    "bench/requirements.lock": ["setup.py", "bench/requirements.in"],
    ".ci/tox.lock": [".ci/tox.in"],
}
PIN = re.compile(r"([a-z0-9._-]+)==(\S+?)( ;[^\\]*)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)")


def read_pins(lock: str) -> dict[str, str]:
    """The versions in a lock by name."""
    return {name: version for name, version, _, _ in PIN.findall((ROOT / lock).read_text())}


def read_requirements(source: str) -> list[Requirement]:
    """What setup.py or an .in file asks for."""
    text = (ROOT / source).read_text()
    if source != "setup.py":
        return [Requirement(line) for line in text.splitlines()]
    call = next(
        node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.keyword) and node.arg == "install_requires"
    )
    return [Requirement(line) for line in ast.literal_eval(call.value)]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_pins_with_hashes_and_nothing_else(lock: str) -> None:
    """No address, no folder of this or that machine: it is installed from wherever pip is set up to install from."""
    text = (ROOT / lock).read_text()
    rest = PIN.sub("", text)
    assert all(line.startswith("#") or not line for line in rest.splitlines()), rest
    assert read_pins(lock)
    assert "deploy/lock" in text, "the command that renews it"
    assert not re.search(r"https?:|file:/|--index|--find-links|/home|/opt|/tmp", text)


@pytest.mark.parametrize(("lock", "sources"), LOCKS.items())
def test_a_lock_satisfies_what_it_was_made_from(lock: str, sources: list[str]) -> None:
    pins = read_pins(lock)
    requirements = [requirement for source in sources for requirement in read_requirements(source)]
    assert requirements
    for requirement in requirements:
        version = pins.get(re.sub(r"[-_.]+", "-", requirement.name).lower())
        assert version is not None, f"{requirement} is not in {lock}: run deploy/lock"
        assert requirement.specifier.contains(version), f"{lock} has {version}, not {requirement}: run deploy/lock"


@pytest.mark.parametrize("lock", [lock for lock, sources in LOCKS.items() if len(sources) == 2])
def test_what_is_tested_is_what_the_image_has(lock: str) -> None:
    assert read_pins(lock).items() >= read_pins(RUNTIME).items()


def test_the_image_and_ci_install_from_the_locks_alone() -> None:
    """Every pip that installs names a lock and asks for its hashes, or takes nothing from anywhere else."""
    for file in ("Dockerfile", ".ci/run"):
        text = (ROOT / file).read_text().replace("\\\n", " ")
        for command in re.findall(r"pip\"? (?:install|wheel) [^\n&]*", text):
            locked = "--require-hashes -r" in command and ".lock" in command
            assert locked or "--no-deps" in command, command
    environments = (ROOT / "tox.ini").read_text()
    for deps in re.findall(r"^deps =(.*(?:\n .*)*)", environments, re.MULTILINE):
        assert re.fullmatch(r"\s*(-r \S+\.lock|\{\[tests\]deps\})", deps), deps


def test_the_image_stands_on_a_digest_and_says_how_to_renew_it() -> None:
    text = (ROOT / "Dockerfile").read_text()
    (base,) = re.findall(r"^ARG BASE=(\S+)$", text, re.MULTILINE)
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+@sha256:[0-9a-f]{64}", base)
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${BASE}", "${BASE}"]
    assert "docker buildx imagetools inspect" in text
