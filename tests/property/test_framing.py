"""Where requests begin and end: held against a slow and obvious reading, against h11 and against Sanic's parser."""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from time import process_time
from types import SimpleNamespace
from typing import Any

import h11
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from sanic import Sanic
from sanic.exceptions import BadURL
from sanic.http import Http
from sanic.http.constants import Stage

from scoreboard.errors import BadRequest, TooLarge
from scoreboard.http.framing import (
    EXTENSION_BYTES_MAX,
    HEAD_BYTES_MAX,
    SIZE_DIGITS_MAX,
    TRAILER_BYTES_MAX,
    Framing,
    check_head,
)
from scoreboard.http.plain import parse_plain
from tests.property import http_reference
from tests.property.http_reference import Incomplete, Malformed, Request, read_requests

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def head(*lines: bytes, line: bytes = b"GET / HTTP/1.1") -> bytes:
    return b"\r\n".join([line, b"Host: a", *lines, b"", b""])


def feed(framing: Framing, *pieces: bytes) -> list[bytes]:
    """Feed pieces, as a connection does; what was handed on, a request at a time."""
    handed: list[bytes] = [b""]
    for piece in pieces:
        at = 0
        while at < len(piece) and framing.fault is None:
            passed, at = framing.feed(piece, at)
            handed[-1] += passed
            if framing.rests and handed[-1]:
                handed.append(b"")
    return [each for each in handed if each]


def read_handed(pieces: list[bytes]) -> tuple[list[Request], type[Exception], str | None]:
    """The requests in what a checker hands on of some pieces, and what it says in the end."""
    framing = Framing()
    requests: list[Request] = []
    for handed in feed(framing, *pieces):
        found, _ = read_requests(handed)
        assert len(found) <= 1
        requests += found
    if framing.fault is None:
        return requests, Incomplete, None
    return requests, http_reference.TooLarge if isinstance(framing.fault, TooLarge) else Malformed, framing.fault.detail


# -- what is refused, and how it is told

REFUSED = {
    "white-space-before-colon": (head(b"X : a"), "white space between the name of the header 'X'"),
    "white-space-before-length": (head(b"Content-Length : 5"), "the header 'Content-Length'"),
    "tab-before-colon": (head(b"Transfer-Encoding\t: chunked"), "the header 'Transfer-Encoding'"),
    "folded": (head(b"X: a", b" b"), "may not be folded"),
    "folded-by-tab": (head(b"X: a", b"\tb"), "may not be folded"),
    "folded-first-line": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", "may not be folded"),
    "bare-line-feeds": (GET.replace(b"\r\n", b"\n"), "a line feed without a carriage return in the request line"),
    "bare-line-feed": (head(b"X: a\nY: b"), "a line feed without a carriage return in the header 'X'"),
    "bare-carriage-return": (head(b"X: a\rY: b"), "a carriage return without a line feed in the header 'X'"),
    "nul-in-value": (head(b"X: \0"), "the control character 0x00 in the header 'X'"),
    "escape-in-value": (head(b"X: \x1b[2J"), "0x1b"),
    "delete-in-value": (head(b"X: a\x7f"), "0x7f"),
    "nul-in-name": (head(b"X\0: a"), "the control character 0x00 in the name of a header"),
    "high-byte-in-name": (head(b"\xe9: a"), "the name of a header is '\\xe9'"),
    "space-in-name": (head(b"X Y: a"), "the name of a header is 'X Y'"),
    "nameless": (head(b": a"), "without a name"),
    "no-colon": (head(b"nothing"), "without a colon: 'nothing'"),
    "no-host": (b"GET / HTTP/1.1\r\n\r\n", "no Host header"),
    "two-hosts": (head(b"Host: a"), "2 Host headers"),
    "two-hosts-of-1.0": (head(b"host: b", line=b"GET / HTTP/1.0"), "2 Host headers"),
    **{
        f"host-{number}": (b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host, "the Host header is")
        for number, host in enumerate(
            b"|a b|a/b|a@b|a,b c|a:b|a:80:80|a:99999|a:123456|[::1|[::g]|[::1]x|[1:2]|a\xe9|%zz|http://a|a\\b".split(
                b"|"
            )
            + b'"a"|<a>|a#b|a?b|::1'.split(b"|")
        )
    },
    "length-text": (head(b"Content-Length: five"), "the Content-Length is 'five'"),
    "length-plus": (head(b"Content-Length: +5"), "the Content-Length is '+5'"),
    "length-minus": (head(b"Content-Length: -5"), "the Content-Length is '-5'"),
    "length-underscore": (head(b"Content-Length: 1_0"), "the Content-Length is '1_0'"),
    "length-hexadecimal": (head(b"Content-Length: 0x5"), "the Content-Length is '0x5'"),
    "length-arabic": (head("Content-Length: \u0665".encode()), "the Content-Length is"),
    "length-empty": (head(b"Content-Length:"), "the Content-Length is ''"),
    "length-list": (head(b"Content-Length: 5, 5"), "the Content-Length is '5, 5'"),
    "lengths-differ": (head(b"Content-Length: 5", b"content-length: 6"), "a Content-Length of '5' and '6'"),
    "lengths-one-bad": (head(b"Content-Length: 5", b"Content-Length: x"), "the Content-Length is 'x'"),
    "length-and-chunked": (head(b"Content-Length: 5", b"Transfer-Encoding: chunked"), "both a Transfer-Encoding and"),
    "chunked-and-length": (head(b"Transfer-Encoding: chunked", b"Content-Length: 5"), "both a Transfer-Encoding and"),
    "chunked-of-1.0": (head(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0"), "HTTP/1.0"),
    "coding-gzip": (head(b"Transfer-Encoding: gzip"), "the Transfer-Encoding is 'gzip'"),
    "coding-gzip-chunked": (head(b"Transfer-Encoding: gzip, chunked"), "the Transfer-Encoding is 'gzip, chunked'"),
    "coding-identity": (head(b"Transfer-Encoding: identity"), "the Transfer-Encoding is 'identity'"),
    "coding-empty": (head(b"Transfer-Encoding:"), "the Transfer-Encoding is ''"),
    "coding-twice": (head(*[b"Transfer-Encoding: chunked"] * 2), "the Transfer-Encoding is 'chunked, chunked'"),
    "coding-x": (head(b"Transfer-Encoding: xchunked"), "the Transfer-Encoding is 'xchunked'"),
    "coding-quoted": (head(b'Transfer-Encoding: "chunked"'), "the Transfer-Encoding is"),
    "method-non-utf-8": (head(line=b"G\xffT / HTTP/1.1"), "the method is 'G\\xffT'"),
    "method-delimiter": (head(line=b"GET( / HTTP/1.1"), "the method is 'GET('"),
    "no-method": (head(line=b" / HTTP/1.1"), "the method is ''"),
    "two-spaces": (head(line=b"GET  / HTTP/1.1"), "the request line is 'GET  / HTTP/1.1'"),
    "tab-in-line": (head(line=b"GET\t/ HTTP/1.1"), "the request line is 'GET\\t/ HTTP/1.1'"),
    "space-at-end-of-line": (head(line=b"GET / HTTP/1.1 "), "the request line is"),
    "space-in-target": (head(line=b"GET /a b HTTP/1.1"), "the request line is"),
    "high-byte-in-target": (head(line=b"GET /\xff HTTP/1.1"), "the request target is '/\\xff'"),
    "nul-in-target": (head(line=b"GET /\0 HTTP/1.1"), "the control character 0x00 in the request line"),
    "no-version": (head(line=b"GET /"), "the request line is 'GET /'"),
    "version-0.9": (head(line=b"GET / HTTP/0.9"), "the version is 'HTTP/0.9'"),
    "version-1.2": (head(line=b"GET / HTTP/1.2"), "the version is 'HTTP/1.2'"),
    "version-2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "the version is 'HTTP/2.0'"),
    "version-lower-case": (head(line=b"GET / http/1.1"), "the version is 'http/1.1'"),
    "version-01.1": (head(line=b"GET / HTTP/01.1"), "the version is"),
    "two-empty-lines-first": (b"\r\n\r\n" + GET, "the request line is ''"),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "the control character 0x16 in the request line"),
    "size-0x": (CHUNKED + b"0x12\r\n", "the size of a chunk begins as '0x'"),
    "size-text": (CHUNKED + b"zz\r\n", "the size of a chunk begins as 'z'"),
    "size-minus": (CHUNKED + b"-5\r\n", "the size of a chunk begins as '-'"),
    "size-plus": (CHUNKED + b"+5\r\n", "the size of a chunk begins as '+'"),
    "size-underscore": (CHUNKED + b"1_0\r\n", "the size of a chunk begins as '1_'"),
    "size-empty": (CHUNKED + b"\r\n", "the size of a chunk begins as"),
    "size-space-before": (CHUNKED + b" 5\r\n", "the size of a chunk begins as ' '"),
    "size-space-after": (CHUNKED + b"5 \r\nhello\r\n", "the size of a chunk begins as '5 "),
    "size-line-feed": (CHUNKED + b"5\nhello\n0\n\n", "the size of a chunk begins as '5\\n'"),
    "size-only-extension": (CHUNKED + b";a\r\n", "the size of a chunk begins as ';'"),
    "size-too-long": (CHUNKED + b"0" * (SIZE_DIGITS_MAX + 1) + b"\r\n", "more than 64 digits"),
    "extension-too-long": (CHUNKED + b"5;" + b"x" * (EXTENSION_BYTES_MAX + 1) + b"\r\n", "more than 256 bytes"),
    "extension-control": (CHUNKED + b"5;a\0\r\nhello\r\n", "the extension of a chunk"),
    "extension-line-feed": (CHUNKED + b"5;a\nhello\r\n", "the extension of a chunk"),
    "chunk-without-end": (CHUNKED + b"5\r\nhello0\r\n\r\n", "does not end in CRLF"),
    "chunk-ends-in-two-bytes": (CHUNKED + b"5\r\nhelloXX0\r\n\r\n", "does not end in CRLF"),
    "chunk-ends-in-line-feed": (CHUNKED + b"5\r\nhello\n0\r\n\r\n", "does not end in CRLF"),
    "chunk-ends-in-two-line-feeds": (CHUNKED + b"5\r\nhello\n\n0\r\n\r\n", "does not end in CRLF"),
    "trailer-folded": (CHUNKED + b"0\r\nX: a\r\n b\r\n\r\n", "may not be folded"),
    "trailer-no-colon": (CHUNKED + b"0\r\nGET / HTTP/1.1\r\n\r\n", "without a colon"),
    "trailer-line-feed": (CHUNKED + b"0\r\nX: a\n\r\n", "a line feed without"),
    "trailers-too-long": (CHUNKED + b"0\r\nX: " + b"x" * TRAILER_BYTES_MAX, "the trailers after the last chunk"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_malformed_is_refused_and_told_alike_however_it_comes(name: str) -> None:
    data, told = REFUSED[name]
    for before in (b"", GET, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"):
        whole = [before + data + GET]
        outcomes = {name: read_handed(pieces) for name, pieces in cuts(whole[0]).items()}
        _, why, detail = outcomes["whole"]
        assert why is Malformed
        assert detail is not None and told in detail
        assert len(detail) < 300 and detail.isascii() and detail.isprintable()
        for each in outcomes.values():
            assert each == outcomes["whole"]


def cuts(data: bytes) -> dict[str, list[bytes]]:
    """Whole, a byte at a time, and in two at places of all kinds."""
    places = range(1, len(data), 1 if len(data) < 400 else 97)
    return {
        "whole": [data],
        "bytes": [data[at : at + 1] for at in range(len(data))],
        **{f"at {at}": [data[:at], data[at:]] for at in places},
    }


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_malformed_is_plain_for_nobody(name: str) -> None:
    """The fast lane takes none of it."""
    data, _ = REFUSED[name]
    assert parse_plain(data) is None
    head_only, end, _ = data.partition(b"\r\n\r\n")
    if not data.startswith(CHUNKED) and end:
        with pytest.raises(BadRequest):
            check_head(head_only + end)


def test_a_request_line_that_is_known_is_told_with_the_fault() -> None:
    for data, asked in {
        head(b"X : a", line=b"PUT /a?b HTTP/1.1"): ("PUT", "/a?b"),
        b"PUT /a?b HTTP/1.1\r\nX\n": ("PUT", "/a?b"),
        head(line=b"G\xffT / HTTP/1.1"): None,
    }.items():
        framing = Framing()
        feed(framing, data)
        assert framing.asked == asked


# -- what is taken

TAKEN = {
    "white-space-after-values": (head(b"X: a \t ", b"Content-Length: 5 \t") + b"hello", b"hello"),
    "white-space-before-values": (head(b"X: \t a", b"Content-Length:\t 5") + b"hello", b"hello"),
    "no-white-space": (head(b"X:a", b"Content-Length:5") + b"hello", b"hello"),
    "tabs-in-values": (head(b"X: a\tb"), b""),
    "high-bytes-in-values": (head(b"X: \x80\xff\x85\xa0"), b""),
    "empty-value": (head(b"X:", b"Y: "), b""),
    "equal-lengths": (head(b"Content-Length: 5", b"content-length: 5", b"CONTENT-LENGTH:5 ") + b"hello", b"hello"),
    "length-with-zeros": (head(b"Content-Length: " + b"0" * 5_000 + b"5") + b"hello", b"hello"),
    "chunked-in-capitals": (CHUNKED.replace(b"chunked", b"ChUnKeD") + b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    "chunked-and-space": (CHUNKED.replace(b"chunked", b"chunked\t ") + b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    "size-in-both-cases": (CHUNKED + b"0aB\r\n" + b"x" * 0xAB + b"\r\n000\r\n\r\n", b"x" * 0xAB),
    "extensions": (CHUNKED + b"5;a=b;c\r\nhello\r\n0;d\r\n\r\n", b"hello"),
    "extension-after-space": (CHUNKED + b"5 \t;a\r\nhello\r\n0\r\n\r\n", b"hello"),
    "longest-extension": (CHUNKED + b"5;" + b"x" * EXTENSION_BYTES_MAX + b"\r\nhello\r\n0\r\n\r\n", b"hello"),
    "longest-size": (CHUNKED + b"5".rjust(SIZE_DIGITS_MAX, b"0") + b"\r\nhello\r\n0\r\n\r\n", b"hello"),
    "trailers": (CHUNKED + b"5\r\nhello\r\n0\r\nX: a\r\nContent-Length: 7\r\n\r\n", b"hello"),
    "longest-trailers": (CHUNKED + b"0\r\nX: " + b"x" * (TRAILER_BYTES_MAX - 5) + b"\r\n\r\n", b""),
    "line-ends-in-chunks": (CHUNKED + b"6\r\n\r\n\r\n0\n\r\n0\r\n\r\n", b"\r\n\r\n0\n"),
    "absolute-target": (head(line=b"GET http://a/ HTTP/1.1"), b""),
    "http-1.0-without-host": (b"GET / HTTP/1.0\r\n\r\n", b""),
    "one-empty-line-first": (b"\r\n" + GET, b""),
    **{
        f"host-{number}": (b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host, b"")
        for number, host in enumerate(
            b"example.org|EXAMPLE.org:8000|a_b-c.d|127.0.0.1:80|[::1]|[::1]:80|a:|a%20b|[2001:db8::1.2.3.4]".split(b"|")
            + b"xn--e1afmkfd.org|a:65535| a ".split(b"|")
        )
    },
    "longest-head": (head(b"X: " + b"x" * (HEAD_BYTES_MAX - len(head(b"X: ")) + 3)), b""),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_allowed_is_taken_however_it_comes(name: str) -> None:
    data, body = TAKEN[name]
    for each, pieces in cuts(data + GET).items():
        requests, why, detail = read_handed(pieces)
        assert why is Incomplete, (each, detail)
        assert [request.body for request in requests] == [body, b""], each


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_handed_on_has_one_form(name: str) -> None:
    """No white space after values, one field about the body, chunks without extensions, no trailers."""
    data, body = TAKEN[name]
    (handed,) = feed(Framing(), data)
    lines, _, rest = handed.partition(b"\r\n\r\n")
    fields = [line.partition(b":") for line in lines.split(b"\r\n")[1:]]
    assert all(value == value.rstrip(b" \t") for _, _, value in fields)
    about = [(name.lower(), value.strip()) for name, _, value in fields if name.lower() in (b"content-length", *TE)]
    if about and about[0][0] in TE:
        assert about == [(*TE, b"chunked")]
        assert rest == (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    else:
        assert rest == body
        assert about in ([], [(b"content-length", about[0][1] if about else b"")])
        assert not about or (int(about[0][1]) == len(body) and len(about[0][1]) <= 18)
    assert len(lines) <= len(data)


TE = (b"transfer-encoding",)


@pytest.mark.parametrize("length", [b"9" * 18, b"9" * 19, b"9" * 5_000])
def test_absurd_lengths_are_handed_on_as_one_that_can_be_read(length: bytes) -> None:
    (handed,) = feed(Framing(), head(b"Content-Length: " + length) + b"hello")
    assert b"ontent-" in handed and int(handed.rpartition(b":")[2].split(b"\r\n")[0]) == 10**18 - 1


@pytest.mark.parametrize("data", [b"G" * 9_000, head(b"X: " + b"x" * 9_000), head(*[b"X: y"] * 2_000)])
def test_a_head_over_the_bound_is_too_large_however_it_comes(data: bytes) -> None:
    for pieces in ([data], [data[:100], data[100:]], [data[at : at + 1] for at in range(len(data))]):
        framing = Framing()
        feed(framing, *pieces)
        assert isinstance(framing.fault, TooLarge)


# -- any bytes at all

NAMES = [b"Host", b"X", b"Content-Length", b"content-length", b"Transfer-Encoding", b"Connection", b"", b"A b", b"\xff"]
ITEMS = [b"a", b"5", b"3", b"0", b"05", b"chunked", b"CHUNKED", b"gzip", b"\xe9", b"", b"a\tb", b"close", b"9" * 20]
SPACES = [b"", b"", b" ", b"\t", b" \t "]
ENDS = [b"\r\n"] * 8 + [b"\n", b"\r", b"\r\n ", b"\0\r\n"]
EDITS = [b"\r\n", b"\n", b"\r", b" ", b":", b"\0", b"\xff", b"0", b"5", b";", b"\r\n\r\n", b"G", b"\t", b"0\r\n\r\n"]
some = st.sampled_from


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request as somebody who tries things may send it; about half of them are well-formed."""
    line = draw(some([b"GET / HTTP/1.1", b"POST /a HTTP/1.1", b"POST / HTTP/1.0"] * 4 + [b"GET  / HTTP/1.1", b"G /"]))
    lines = [line, *draw(some([[b"Host: a"]] * 6 + [[], [b"Host: a", b"Host: a"]]))]
    body, data = draw(st.binary(max_size=12) | some([GET, b"\r\n\r\n", b"0\r\n\r\n"])), b""
    match draw(some(["none", "length", "chunks", "chunks", "odd"])):
        case "length":
            lines += [b"Content-Length: %d" % len(body)] * draw(some([1, 1, 1, 2]))
            data = body
        case "chunks":
            lines.append(b"Transfer-Encoding: chunked" + draw(some(SPACES)))
            data = draw(chunks(body))
        case "odd":
            for _ in range(draw(st.integers(1, 3))):
                field = [draw(some(NAMES)), draw(some(SPACES)), b":", draw(some(SPACES)), draw(some(ITEMS))]
                lines.append(b"".join([*field, draw(some(SPACES))]))
    if draw(st.integers(0, 9)):
        return b"\r\n".join([*lines, b"", b""]) + data
    return b"".join(line + draw(some(ENDS)) for line in lines) + b"\r\n" + data


@st.composite
def chunks(draw: st.DrawFn, body: bytes) -> bytes:
    parts, at = [], 0
    while at < len(body):
        size = draw(st.integers(1, len(body) - at))
        spelt = draw(some([b"%x", b"%X", b"0%x", b"%x;a=b", b"%x ;a", b"%x;" + b"x" * 250])) % size
        end = draw(some([b"\r\n"] * 12 + [b"\n", b"XX", b""]))
        parts.append(spelt + b"\r\n" + body[at : at + size] + end)
        at += size
    last = draw(some([b"0", b"0", b"00", b"0;a"])) + b"\r\n"
    trailers = draw(some([b"", b"", b"X: a\r\n", b"X: a\r\nY:\r\n", b"X\r\n", b"X : a\r\n", b"Content-Length: 5\r\n"]))
    return b"".join(parts) + last + trailers + b"\r\n"


@st.composite
def conversations(draw: st.DrawFn) -> bytes:
    """Some requests in one go, perhaps damaged."""
    data = b"".join(draw(st.lists(requests(), min_size=1, max_size=3)))
    for _ in range(draw(some([0, 0, 0, 1, 2]))):
        at, text = draw(st.integers(0, len(data))), draw(some(EDITS))
        data = data[:at] + text + data[at + draw(some([0, 0, 1, 2, 5])) :]
    return data


@st.composite
def pieces_of(draw: st.DrawFn, data: bytes) -> list[bytes]:
    places = sorted({0, len(data), *draw(st.lists(st.integers(0, len(data)), max_size=8))})
    if draw(st.booleans()):
        places = list(range(len(data) + 1))
    return [data[a:b] for a, b in pairwise(places)]


@given(st.data(), conversations() | st.binary(max_size=60))
def test_any_bytes_are_read_as_the_reference_reads_them_however_they_come(data: st.DataObject, sent: bytes) -> None:
    wanted = read_requests(sent)
    *whole, detail = read_handed([sent])
    assert tuple(whole) == wanted
    assert read_handed(data.draw(pieces_of(sent))) == (*wanted, detail)


@given(conversations())
def test_about_half_of_what_is_tried_is_well_formed(sent: bytes) -> None:
    """The cases are neither all refused nor all taken: this one fails when hypothesis finds only one kind."""
    seen.add(read_requests(sent)[1])


seen: set[type[Exception]] = set()


def test_the_cases_are_of_all_kinds() -> None:
    assert {Malformed, Incomplete} <= seen


# -- other parsers


def read_with_h11(data: bytes) -> list[Request]:
    """The requests that h11 reads from bytes; what it refuses raises."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=64 * 1024)
    connection.receive_data(data)
    found: list[Request] = []
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            return found
        assert isinstance(event, h11.Request), event
        body = b""
        while not isinstance(part := connection.next_event(), h11.EndOfMessage):
            if part is h11.NEED_DATA:
                return found
            assert isinstance(part, h11.Data)
            body += part.data
        fields = tuple((name, value) for name, value in event.headers if name not in (b"content-length", *TE))
        found.append(Request(event.method, event.target, b"HTTP/" + event.http_version, fields, body))
        if connection.their_state is not h11.DONE:
            return found
        connection.send(h11.Response(status_code=204, headers=[]))
        connection.send(h11.EndOfMessage())
        if connection.our_state is not h11.DONE:
            return found  # it would close the connection here
        connection.start_next_cycle()


@given(conversations())
@example(CHUNKED + b"5;a\r\nhello\r\n0\r\nX: a\r\n\r\n" + GET)
def test_what_is_taken_h11_takes_too_and_reads_the_same(sent: bytes) -> None:
    ours, why, _ = read_handed([sent])
    assume(ours and not sent.startswith(b"\r\n") and b" ;" not in sent)
    try:
        theirs = read_with_h11(sent)
    except h11.RemoteProtocolError as exc:
        # It was given everything at once, and may have refused what comes after the requests that we took; or the
        # empty line before one, which it does not ignore.
        assert why is not Incomplete or "no request line" in str(exc)
        return
    both = min(len(ours), len(theirs))  # it takes more than we do, and stops where it would close the connection
    assert both
    assert theirs[:both] == ours[:both]


@pytest.fixture(scope="module")
def sanic_app() -> "Sanic[Any, Any]":
    return Sanic("framing")


class SanicHttp(Http):
    HEADER_MAX_SIZE = HEAD_BYTES_MAX


async def read_with_sanic(app: "Sanic[Any, Any]", handed: list[bytes]) -> list[tuple[str, str, bytes]]:
    """The requests that Sanic's parser reads from what was handed on, each given by itself.

    It must want no more than that, and leave nothing of it.
    """

    async def receive_more() -> None:
        raise AssertionError("Sanic waits for more of a request that is whole")

    async def send(_: bytes) -> None:
        pass

    async def dispatch(*_: object, **__: object) -> None:
        pass

    protocol = SimpleNamespace(
        app=app,
        request_class=app.request_class,
        recv_buffer=bytearray(),
        request_max_size=10**6,
        transport=None,
        state={"requests_count": 0},
        receive_more=receive_more,
        send=send,
    )
    http = SanicHttp(protocol)
    http.dispatch = dispatch  # a running server has no signals here either
    found = []
    for data in handed:
        http.init_for_request()  # type: ignore[no-untyped-call]
        http.recv_buffer += data
        http.stage = Stage.REQUEST
        try:
            await http.http1_request_header()  # type: ignore[no-untyped-call]
        except BadURL:
            break  # it ends the connection then
        body = b"".join([part async for part in http])  # type: ignore[no-untyped-call, attr-defined]
        assert not http.recv_buffer, "Sanic takes a part of one request for another"
        found.append((http.request.method, http.request.raw_url.decode(), body))
    return found


@given(data=st.data(), sent=conversations())
def test_sanic_ends_each_request_where_we_do(sanic_app: "Sanic[Any, Any]", data: st.DataObject, sent: bytes) -> None:
    framing = Framing()
    handed = feed(framing, *data.draw(pieces_of(sent)))
    wanted, _ = read_requests(sent)
    found = asyncio.run(read_with_sanic(sanic_app, handed[: len(wanted)]))
    told = [(each.method.decode(), each.target.decode(), each.body) for each in wanted]
    assert found == told[: len(found)]
    assert len(found) == len(told) or not told[len(found)][1].startswith("/")


# -- time

N = 4_000
GROWING: dict[str, Callable[[int], bytes]] = {
    "long-value": lambda n: head(b"X: " + b"x" * n)[:-4],
    "spaces": lambda n: head(b"X: a" + b" " * n)[:-4] + b"a",
    "many-fields": lambda n: head(*[b"a:b"] * (n // 5))[:-4],
    "long-target": lambda n: b"GET /" + b"/" * n,
    "many-lines-unended": lambda n: b"GET / HTTP/1.1\r\n" + b"a:\r\n" * (n // 4),
    "requests": lambda n: GET * (n // len(GET) * 20),
    "small-chunks": lambda n: CHUNKED + b"1\r\nx\r\n" * n,
    "extensions": lambda n: CHUNKED + (b"1;" + b"x" * 200 + b"\r\nx\r\n") * (n // 100),
    "trailers": lambda n: CHUNKED + b"0\r\n" + b"a:b\r\n" * (n // 5),
    "spaces-after-size": lambda n: CHUNKED + (b"1" + b" " * 250 + b";\r\nx\r\n") * (n // 100),
    "lengths": lambda n: head(*[b"content-length:0"] * (n // 20)),
    "hosts": lambda n: head(b"X: a")[:-4] + b"\r\nhost:" + b"%20" * (n // 3) + b"\r\n\r\n",
}


def seconds(data: bytes, piece: int) -> float:
    """Processor time of reading, in pieces of some bytes: the least of some tries."""
    pieces = [data[at : at + piece] for at in range(0, len(data), piece)]

    def once() -> float:
        began = process_time()
        feed(Framing(), *pieces)
        return process_time() - began

    return min(once() for _ in range(7))


@pytest.mark.parametrize("piece", [1, 100, 10**6])
@pytest.mark.parametrize("name", GROWING)
def test_time_grows_as_the_bytes_do(name: str, piece: int) -> None:
    """Four times the bytes take about four times as long; 16 times if each were looked at again for each other."""
    small, large = GROWING[name](N // 4), GROWING[name](N)
    assert len(large) < 5 * len(small)
    assert seconds(large, piece) < 8 * seconds(small, piece) + 0.000_5
