"""What the headers promise, held against a real server."""

import asyncio

import asyncpg
import pytest

from scoreboard.contracts import ContractError, load_queries, load_scripts, parse_query, parse_script
from scoreboard.ledger import Ledger
from tests.harness import Stores

QUERIES = load_queries()


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_query_has_the_types_its_header_promises(name: str, ledger: Ledger, stores: Stores) -> None:
    query = QUERIES[name]

    async def prepare() -> tuple[list[str], list[tuple[str, str]]]:
        connection = await asyncpg.connect(stores.database_url)
        try:
            statement = await connection.prepare(query.text)
            columns = [(a.name, spell(a.type)) for a in statement.get_attributes()]
            return [spell(kind) for kind in statement.get_parameters()], columns
        finally:
            await connection.close()

    parameters, columns = asyncio.run(prepare())
    assert parameters == list(query.parameters)
    assert columns == list(query.columns)


def spell(kind: asyncpg.Type) -> str:
    return kind.name


def test_every_script_loads_on_a_real_server(stores: Stores) -> None:
    with stores.redis() as client:
        for script in load_scripts().values():
            assert client.script_load(script.text) == script.sha


GOOD_QUERY = "-- Reads a thing.\n-- Params: $1 a text\n-- Returns: one (b int8)\nSELECT 1::int8 AS b WHERE $1 = 'x'"


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (GOOD_QUERY.replace("-- Params: $1 a text\n", ""), "Params"),
        (GOOD_QUERY.replace("$1 = 'x'", "$1 = $2"), "body uses"),
        (GOOD_QUERY.replace("$1 a text", "$1 a text, $2 b text"), "body uses"),
        (GOOD_QUERY.replace("Returns: one", "Returns: two"), "Returns"),
        (GOOD_QUERY + ";", "semicolon"),
    ],
)
def test_a_query_that_drifted_from_its_header_is_refused(broken: str, said: str) -> None:
    assert parse_query("thing", GOOD_QUERY).columns == (("b", "int8"),)
    with pytest.raises(ContractError, match=said):
        parse_query("thing", broken)


GOOD_SCRIPT = "-- Does.\n-- KEYS[1] a  hash\n-- ARGV[1] b\n-- Returns 1\nreturn KEYS[1] .. ARGV[1]"


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (GOOD_SCRIPT.replace(".. ARGV[1]", ".. ARGV[2]"), "ARGV"),
        (GOOD_SCRIPT.replace("-- KEYS[1] a  hash\n", ""), "KEYS"),
        (GOOD_SCRIPT.replace("-- Returns 1\n", ""), "Returns"),
    ],
)
def test_a_script_that_drifted_from_its_header_is_refused(broken: str, said: str) -> None:
    assert parse_script("thing", GOOD_SCRIPT).keys == 1
    with pytest.raises(ContractError, match=said):
        parse_script("thing", broken)
