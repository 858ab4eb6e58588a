"""What the benchmark makes of its measurements: percentiles, goals, comparisons, and what other tools print."""

import json
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.compare import format_comparison
from bench.document import format_page
from bench.figures import summarise_ms
from bench.report import ROWS, find_missed, format_table, make_rows
from bench.wrk import WrkFailed, parse_output

WRK = """Running 2s test @ http://127.0.0.1:8000/api/leaderboard
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.29ms  448.33us   9.01ms   86.33%
    Req/Sec    49.73k     3.21k   57.11k    75.00%
  Latency Distribution
     50%    1.19ms
     75%    1.41ms
     90%  980.00us
     99%    3.02s
  99045 requests in 2.00s, 98.71MB read
Requests/sec:  49464.42
Transfer/sec:     49.30MB
"""


def test_wrk_is_understood_in_all_its_units() -> None:
    found = parse_output(WRK)
    assert (found["per_s"], found["wrong"]) == (49_464.42, 0)
    assert found["latency_ms"] == {"count": 99_045, "p50": 1.19, "p75": 1.41, "p90": 0.98, "p99": 3_020.0}


def test_wrong_answers_and_broken_connections_are_not_overlooked() -> None:
    assert parse_output(f"{WRK}  Non-2xx or 3xx responses: 17\n")["wrong"] == 17
    assert parse_output(f"{WRK}  Socket errors: connect 0, read 3, write 0, timeout 0\n")["wrong"] == 1


def test_an_unknown_answer_of_wrk_is_a_failure() -> None:
    with pytest.raises(WrkFailed, match="something unknown"):
        parse_output("wrk: unable to connect")


def test_percentiles_are_of_the_samples_themselves() -> None:
    summary = summarise_ms([number / 1_000 for number in range(1, 101)])
    assert (summary["p50"], summary["p95"], summary["p99"], summary["max"]) == (50.0, 95.0, 99.0, 100.0)
    assert summarise_ms([]) == {"count": 0}


def results(per_s: float, bare_per_s: float, p99: float = 1.0) -> dict[str, object]:
    latencies = {"p50": 0.5, "p99": p99}
    return {
        "ready-64": {"get": {"per_s": bare_per_s, "latency_ms": latencies}},
        "read-64": {"get": {"per_s": per_s, "latency_ms": latencies}},
    }


def rows(*repeats: dict[str, object], margin: float = 1.0) -> dict[str, dict[str, object]]:
    return {str(line["what"]): line for line in make_rows(repeats, ["read"], margin=margin)}


def test_a_goal_is_held_against_the_median_of_the_repeats_ratios() -> None:
    lines = rows(results(100, 20), results(90, 10), results(80, 40))
    line = lines["64 at a time"]
    assert (line["value"], line["low"], line["high"]) == (90, 80, 100)
    assert (line["ratio"], line["ratio_low"], line["ratio_high"]) == (5, 2, 9)
    assert (line["goal"], line["ok"]) == (">= x4", True)
    assert rows(results(39, 10))["64 at a time"]["ok"] is False


def test_a_margin_asks_for_half_of_a_rate_and_allows_twice_a_time() -> None:
    for per_s, p99, expected in ((21, 3.9, (True, True)), (19, 4.1, (False, False))):
        lines = rows(results(per_s, 10, p99), margin=0.5)
        assert (lines["64 at a time"]["ok"], lines["64 at a time, p99"]["ok"]) == expected


def test_a_goal_that_one_repeat_missed_is_judged_by_the_median_of_those_that_measured_it() -> None:
    stalled, fine, other = results(50, 10, 14.0), results(50, 10, 1.0), {"cold": {"external_s": 0.3}}
    assert find_missed(make_rows([stalled], ["read", "cold"], margin=0.5)) == ["read"]
    assert find_missed(make_rows([stalled, other], ["read", "cold"], margin=0.5)) == ["read"]
    assert find_missed(make_rows([stalled | other, fine, fine], ["read", "cold"], margin=0.5)) == []
    assert find_missed(make_rows([stalled, fine, stalled], ["read", "cold"], margin=0.5)) == ["read"]


def test_what_allows_no_margin_must_hold_in_each_repeat() -> None:
    repeats = [{"mixed": {"stream": {"share_converged": share}}} for share in (1.0, 0.999, 1.0)]
    assert find_missed(make_rows(repeats, ["mixed"], margin=0.1)) == ["mixed"]
    assert find_missed(make_rows(repeats[:1], ["mixed"], margin=0.1)) == []


def test_what_was_not_measured_has_no_line() -> None:
    assert set(rows(results(1, 1))) == {"64 at a time", "64 at a time, p50", "64 at a time, p99"}


def test_every_line_of_the_table_has_a_name_of_its_own() -> None:
    names = [(row.workload, row.what, row.against) for row in ROWS]
    assert len(set(names)) == len(names)


def test_the_table_says_what_was_missed() -> None:
    table = format_table(make_rows([results(10, 10, 5.0)], ["read"]))
    assert table.count("MISSED") == 2


def test_comparison_shows_multiples_with_what_the_spread_allows(tmp_path: Path) -> None:
    runs = []
    for repeats in ([results(100, 10), results(120, 10)], [results(200, 20), results(260, 20)]):
        lines = make_rows(repeats, ["read"])
        runs.append({"commit": "0123456789abcdef", "at": "2026-01-01T00:00:00+00:00", "rows": lines})
    text = format_comparison(*runs)
    (line,) = [line for line in text.splitlines() if "64 at a time " in line]
    assert line.split()[-4:] == ["x2.09", "1.67..2.60", "x1.05", "0.83..1.30"]


def test_the_report_has_a_table_for_each_workload_and_names_its_plots() -> None:
    run = {
        "commit": "0123456789abcdef",
        "dirty": False,
        "at": "2026-01-01T00:00:00+00:00",
        "took_s": 1.0,
        "machine": {"cpu": "a processor", "cores": 2, "memory_gib": 4.0, "kernel": "Linux 6", "python": "CPython 3"},
        "parameters": {"repeats": 1, "seconds": 2.0, "readers": 1_000},
        "rows": make_rows([results(19, 10)], ["read"]),
        "verify": {"findings": "1 boards verified, 0 differences"},
    }
    page = format_page(run, ["latency.svg"])
    assert "| 64 at a time | 19 /s | 19..19 | x1.90 | bare Sanic | >= x4 MISSED |" in page
    assert "![latency](latency.svg)" in page


def test_comparing_needs_two_readable_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps({"commit": "a", "at": "b", "rows": []}))
    bad.write_text("{")
    assert main(["compare", str(good), str(good)]) == 0
    for path in (bad, tmp_path / "none.json"):
        with pytest.raises(SystemExit) as ended:
            main(["compare", str(good), str(path)])
        assert ended.value.code == 2
        assert str(path) in capsys.readouterr().err
