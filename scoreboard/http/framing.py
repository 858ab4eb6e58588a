"""Where requests begin and end: the bytes of a connection, checked before anything else reads them.

Two programs that disagree about where a request ends can be made to take a part of one client's request for the
beginning of another's. So nothing here is lenient: what RFC 9112 does not allow is refused, with the few exceptions
that it names, and whoever reads on is given what was accepted in one form only. Heads have no white space after their
values and at most one field that tells of a body; bodies in chunks are chunked anew, without extensions and trailers.

One function, ``check_head``, decides what a well-formed head is, for requests that come whole and for those that come
in pieces. ``Framing`` does the rest for one connection. Its work grows with the bytes it is fed, however they are cut,
and what it decides does not depend on the cuts.

Source: RFC 9112 (HTTP/1.1), RFC 9110 section 5 (fields), RFC 3986 section 3.2 (hosts).
"""

import re
from collections.abc import Callable
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address

import msgspec

from scoreboard.errors import BadRequest, ScoreboardError, TooLarge

HEAD_BYTES_MAX = 8 * 1024
TRAILER_BYTES_MAX = 8 * 1024
HEADS_MAX = 1_024
"""Heads that are remembered."""
REMEMBERED_BYTES_MAX = 1_024
"""A longer head is read every time."""
SIZE_DIGITS_MAX = 64
EXTENSION_BYTES_MAX = 256
LENGTH_DIGITS_MAX = 18
"""A longer Content-Length is taken for the greatest of that many digits: nobody could send, or take, either."""
PORT_MAX = 65_535
SHOWN_BYTES_MAX = 80
"""Of what was wrong as much is shown."""
CRLF = b"\r\n"
HEAD_END = b"\r\n\r\n"
_HEAD_LIMIT = HEAD_BYTES_MAX + len(HEAD_END) - 1
"""Bytes of the longest head with its empty line: that begins before the bound."""
_TRAILER_LIMIT = TRAILER_BYTES_MAX + len(CRLF)
_WHITE_SPACE = b" \t"
_WAKE = b"?"
"""Stands for a head that is refused before any of it was handed on."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_TEXT = rb"[\t -~\x80-\xff]"
_LINE = rb"(%b++) ([!-~]++) HTTP/1\.([01])\r\n" % _TOKEN
_REQUEST_LINE = re.compile(_LINE)
_FIELD_LINES = re.compile(rb"(?:%b++:%b*+\r\n)*+" % (_TOKEN, _TEXT))
_PLAIN_HEAD = re.compile(rb"%b(?:%b++:%b*+(?<![ \t])\r\n)*+\r\n" % (_LINE, _TOKEN, _TEXT))
"""A well-formed head without white space after its values."""
_NAME = re.compile(rb"%b++" % _TOKEN)
_VERSION = re.compile(rb"HTTP/1\.[01]")
_TARGET = re.compile(rb"[!-~]++")
_PATH_BEGINS = ord("/")
_URL = re.compile(rb"(?i:https?)://([^/?#]++)(?:[/?][!-~]*+)?")
_CONCERNED = re.compile(rb"\n(?i:(host|content-length|transfer-encoding)):([^\r]*+)")
"""The fields that tell where a request goes and where it ends."""
_HOST_CHARS, _LENGTH_CHARS, _CODING_CHARS = 4, 14, 17
"""By the lengths of their names they are told apart."""
_FRAMING_FIELDS = frozenset({b"content-length", b"transfer-encoding"})
_FORBIDDEN = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n|\Z)|(?<!\r)\n")
"""Control characters but the tab, CR without LF and LF without CR. The LF of a CR at the end may be yet to come."""
_DIGITS = re.compile(rb"[0-9]++")
_USUAL_LENGTH = re.compile(rb"[0-9]{1,9}")
_HOST = re.compile(
    rb"(?:\[(?P<address>[0-9A-Fa-f:.]{2,45})\]|(?:[0-9A-Za-z._~!$&'()*+,;=-]++|%[0-9A-Fa-f]{2})++)"
    rb"(?::(?P<port>[0-9]{0,5}))?"
)
_SPACE_BEFORE_EXTENSION = rb"[\t ]{0,%d}+" % EXTENSION_BYTES_MAX
_EXTENSION = rb";%b{0,%d}+" % (_TEXT, EXTENSION_BYTES_MAX)
_SIZE = rb"[0-9A-Fa-f]{1,%d}+" % SIZE_DIGITS_MAX
_SIZE_LINE = re.compile(rb"(%b)(?:%b%b)?\r\n" % (_SIZE, _SPACE_BEFORE_EXTENSION, _EXTENSION))
_SIZE_LINE_PART = re.compile(rb"(?:%b%b(?:%b)?\r?)?" % (_SIZE, _SPACE_BEFORE_EXTENSION, _EXTENSION))
_SIZE_LINE_BYTES_MAX = 1_024
"""More than any line that the pattern matches; so much is looked at."""


class Head(msgspec.Struct, frozen=True, gc=False):
    """The head of a well-formed request.

    :ivar text: as it is handed on, with the empty line at its end.
    :ivar length: bytes of the body; None if it comes in chunks.
    :ivar is_http_1_1: otherwise it is of HTTP/1.0.
    """

    text: bytes
    length: int | None
    is_http_1_1: bool


def check_head(head: bytes) -> Head:
    """What a head says of where its request ends.

    :param head: up to the first empty line, with it.
    :raises BadRequest: if it is malformed; the detail tells what is wrong.
    """
    found = _PLAIN_HEAD.fullmatch(head)
    if found is None:
        _check_lines(head, 0, is_head=True)
    line = found or _REQUEST_LINE.match(head)
    assert line is not None, "its lines were checked"
    if line[2][0] != _PATH_BEGINS:
        _check_target(line[1], line[2])
    is_http_1_1 = line[3] == b"1"
    concerned = _CONCERNED.findall(head)
    if found is not None and len(concerned) == 1:
        ((name, value),) = concerned
        if len(name) == _HOST_CHARS and _is_host(value):
            return Head(head, 0, is_http_1_1)  # like most: with one Host, and no word of a body
    _check_hosts([value for name, value in concerned if len(name) == _HOST_CHARS], is_needed=is_http_1_1)
    lengths = [value.strip(_WHITE_SPACE) for name, value in concerned if len(name) == _LENGTH_CHARS]
    codings = [value.strip(_WHITE_SPACE) for name, value in concerned if len(name) == _CODING_CHARS]
    if codings:
        _check_codings(codings, lengths, is_http_1_1=is_http_1_1)
        return Head(_rewrite(head, b"transfer-encoding:chunked"), None, is_http_1_1)
    length = _read_lengths(lengths) if lengths else 0
    if found is None or len(lengths) > 1 or (lengths and len(lengths[0]) > LENGTH_DIGITS_MAX):
        head = _rewrite(head, b"content-length:%d" % length if lengths else None)
    return Head(head, length, is_http_1_1)


_recall_head = lru_cache(maxsize=HEADS_MAX)(check_head)
"""The same, remembered by the head's very bytes: what a client asks again and again it asks with the same ones."""


def _rewrite(head: bytes, framing: bytes | None) -> bytes:
    """The head without white space around values, and one field about the body, if any. It never becomes longer."""
    line, *fields = head[: -len(HEAD_END)].split(CRLF)
    kept = [line]
    for field in fields:
        name, _, value = field.partition(b":")
        if name.lower() not in _FRAMING_FIELDS:
            kept.append(name + b":" + value.strip(_WHITE_SPACE))
    if framing is not None:
        kept.append(framing)
    return CRLF.join(kept) + HEAD_END


def _check_target(method: bytes, target: bytes) -> None:
    """Of a target that is no path. Source: RFC 9112, section 3.2."""
    if target == b"*":
        if method != b"OPTIONS":
            raise BadRequest(f"the request target is '*', which goes with OPTIONS and not with {_show(method)}")
        return
    url = _URL.fullmatch(target)
    if url is None or not _is_host(url[1]):
        raise BadRequest(
            f"the request target is {_show(target)}: it has to be a path that begins with /, or a URL of http or https"
        )


def _check_hosts(hosts: list[bytes], *, is_needed: bool) -> None:
    if len(hosts) > 1:
        raise BadRequest(f"there are {len(hosts)} Host headers: a request has one")
    if not hosts:
        if is_needed:
            raise BadRequest("there is no Host header: a request of HTTP/1.1 needs one")
        return
    if not _is_host(hosts[0]):
        shown = _show(hosts[0].strip(_WHITE_SPACE))
        raise BadRequest(f"the Host header is {shown}: it has to be a host's name or address, with or without a port")


@lru_cache(maxsize=64)
def _is_host(value: bytes) -> bool:
    found = _HOST.fullmatch(value.strip(_WHITE_SPACE))
    if found is None or int(found["port"] or 0) > PORT_MAX:
        return False
    if found["address"] is not None:
        try:
            IPv6Address(found["address"].decode("ascii"))
        except AddressValueError:
            return False
    return True


def _check_codings(codings: list[bytes], lengths: list[bytes], *, is_http_1_1: bool) -> None:
    if len(codings) > 1 or codings[0].lower() != b"chunked":
        shown = _show(b", ".join(codings))
        raise BadRequest(f"the Transfer-Encoding is {shown}: only 'chunked' is taken, and once")
    if not is_http_1_1:
        raise BadRequest("there is a Transfer-Encoding in a request of HTTP/1.0, which does not know it")
    if lengths:
        raise BadRequest("there are both a Transfer-Encoding and a Content-Length: a body has one of them")


def _read_lengths(lengths: list[bytes]) -> int:
    if len(lengths) == 1 and _USUAL_LENGTH.fullmatch(lengths[0]):
        return int(lengths[0])
    for length in lengths:
        if not _DIGITS.fullmatch(length):
            raise BadRequest(f"the Content-Length is {_show(length)}: it has to be decimal digits")
    values = {length.lstrip(b"0") for length in lengths}
    if len(values) > 1:
        first, other = (_show(length) for length in lengths[:2]) if len(lengths) == 2 else ("one", "another")
        raise BadRequest(f"there is a Content-Length of {first} and {other}: they have to be equal")
    digits = values.pop()
    return int(digits or b"0") if len(digits) <= LENGTH_DIGITS_MAX else 10**LENGTH_DIGITS_MAX - 1


def _check_lines(text: bytes | bytearray, checked: int, *, is_head: bool) -> int:
    """Check the lines that are whole.

    :param checked: where the first line begins that was not checked yet.
    :return: where the first line begins that is empty or not whole.
    :raises BadRequest: if one is malformed.
    """
    if is_head and checked == 0:
        line = _REQUEST_LINE.match(text)
        if line is None:
            end = text.find(b"\n") + 1
            if end:
                raise _refuse_request_line(bytes(text[:end]))
            return 0
        checked = line.end()
    lines = _FIELD_LINES.match(text, checked)
    assert lines is not None, "no line at all matches too"
    checked = lines.end()
    if not text.startswith(CRLF, checked):
        end = text.find(b"\n", checked) + 1
        if end:
            raise _refuse_field_line(bytes(text[checked:end]))
    return checked


def _refuse_request_line(line: bytes) -> BadRequest:
    """:param line: as far as it is known, at least up to what is wrong."""
    found = _FORBIDDEN.search(line)
    if found is not None:
        return BadRequest(f"{_name_forbidden(found[0])} in the request line")
    line = line.removesuffix(CRLF)
    parts = line.split(b" ")
    if len(parts) != 3:
        return BadRequest(
            f"the request line is {_show(line)}: it has to be method, target and version, one space between"
        )
    method, target, version = parts
    if not _NAME.fullmatch(method):
        return BadRequest(f"the method is {_show(method)}: it has to be a word of letters")
    if not _VERSION.fullmatch(version):
        return BadRequest(f"the version is {_show(version)}: it has to be HTTP/1.1 or HTTP/1.0")
    assert not _TARGET.fullmatch(target), "then the line would be well-formed"
    return BadRequest(f"the request target is {_show(target)}: what is not printable ASCII is written in percents")


def _refuse_field_line(line: bytes) -> BadRequest:
    """:param line: as far as it is known, at least up to what is wrong."""
    found = _FORBIDDEN.search(line)
    if found is not None:
        name, colon, _ = line[: found.start()].partition(b":")
        where = f"the header {_show(name)}" if colon else "the name of a header"
        return BadRequest(f"{_name_forbidden(found[0])} in {where}")
    line = line.removesuffix(CRLF)
    if line[:1] in (b" ", b"\t"):
        return BadRequest(f"a line of the head begins with white space, {_show(line)}: headers may not be folded")
    name, colon, _ = line.partition(b":")
    if not colon:
        return BadRequest(f"a header without a colon: {_show(line)}")
    if not name:
        return BadRequest(f"a header without a name: {_show(line)}")
    if name[-1:] in (b" ", b"\t"):
        return BadRequest(
            f"white space between the name of the header {_show(name.rstrip(_WHITE_SPACE))} and its colon"
        )
    return BadRequest(f"the name of a header is {_show(name)}: it has to be letters, digits and hyphens")


def _name_forbidden(found: bytes) -> str:
    if found == b"\r":
        return "a carriage return without a line feed"
    if found == b"\n":
        return "a line feed without a carriage return"
    return f"the control character U+{found[0]:04X}"


def _refuse_size_line(line: bytes) -> BadRequest:
    """:param line: up to the byte that is wrong."""
    digits, semicolon, extension = line.partition(b";")
    if digits and len(extension) > EXTENSION_BYTES_MAX:
        return BadRequest(f"the extension of a chunk has more than {EXTENSION_BYTES_MAX} bytes")
    if digits and semicolon:
        return BadRequest(f"the extension of a chunk ends in {_show(extension[-2:])}, not in CRLF")
    if len(digits) > SIZE_DIGITS_MAX:
        return BadRequest(f"the size of a chunk has more than {SIZE_DIGITS_MAX} digits")
    return BadRequest(f"the size of a chunk begins as {_show(line)}: it has to be hexadecimal digits, then CRLF")


def _show(value: bytes) -> str:
    """A value for a message, in ASCII and not too long."""
    shown = ascii(value[:SHOWN_BYTES_MAX].decode("latin-1"))
    return shown if len(value) <= SHOWN_BYTES_MAX else f"{shown} and {len(value) - SHOWN_BYTES_MAX} bytes more"


class Framing:
    """The requests of one connection, as their bytes come in.

    ``fault`` is why nothing more is taken, once something was malformed or too large; ``asked`` are method and target
    of the request whose head that was, as far as they are known.
    """

    __slots__ = (
        "_announced",
        "_begun",
        "_checked",
        "_chunk",
        "_left",
        "_read",
        "_section",
        "_seen",
        "_skipped",
        "asked",
        "fault",
    )

    def __init__(self) -> None:
        self.fault: ScoreboardError | None = None
        self.asked: tuple[str, str] | None = None
        self._read: Callable[[Framing, bytes, int, list[bytes]], int] = _READ_HEAD
        self._section = bytearray()
        """A head, trailers, or the line with a chunk's size, of which the end has not come."""
        self._checked = 0
        """Where in the section the first line begins that was not checked yet."""
        self._seen = 0
        """Up to where the section was looked through for what may stand nowhere."""
        self._begun = False
        """Whether the first byte of a head was handed on already."""
        self._skipped = False
        """Whether there was an empty line before the head: one is ignored."""
        self._left = 0
        """Bytes to come of the body or chunk, or of the CRLF after a chunk."""
        self._announced = 0
        """Bytes of the body under way, as far as its chunks have said."""
        self._chunk: list[bytes] = []
        """What came of chunks and was not handed on yet; empty between calls."""

    @property
    def rests(self) -> bool:
        """Whether nothing of a request came whose end did not."""
        return self._read is _READ_HEAD and not self._section

    @property
    def announced(self) -> int:
        """Bytes of a body in chunks, with those that the last chunk's size announces."""
        return self._announced

    def feed(self, data: bytes, at: int = 0) -> tuple[bytes, int]:
        """Take bytes from ``at`` on, at most to the end of one request.

        :return: what to hand on, in the one form that whoever reads on is to see, and where the bytes begin that were
            not taken. Of a head that is not whole yet, or is refused, one byte is handed on: enough to know of it.
        """
        out: list[bytes] = []
        try:
            while at < len(data):
                at = self._read(self, data, at, out)
                if self._read is _READ_HEAD and not self._section and not self._skipped:
                    break
        except ScoreboardError as exc:
            self.fault = exc
            at = len(data)
            if self._read is _READ_HEAD and not self._begun:
                out.append(_WAKE)
            self._section.clear()
        if self._chunk:
            self._flush_chunk(out)
        return out[0] if len(out) == 1 else b"".join(out), at

    # -- the parts of a request: each takes what it can from ``at`` on, and gives where the next one begins

    def _read_head(self, data: bytes, at: int, out: list[bytes]) -> int:
        section = self._section
        if not section:
            if not self._skipped and data.startswith(CRLF, at):
                self._skipped = True
                return at + len(CRLF)
            end = data.find(HEAD_END, at, at + _HEAD_LIMIT)
            if end >= 0:
                end += len(HEAD_END)
                self._take_head(data[at:end], out)
                return end
        elif not self._skipped and section == b"\r" and data.startswith(b"\n", at):
            self._skipped = True
            self._forget_section()
            return at + 1
        known = len(section)
        try:
            end = self._collect(data, at, _HEAD_LIMIT, is_head=True)
        except BadRequest:
            self._note_asked(section)
            raise
        if end:
            head = bytes(section[:end])
            self._forget_section()
            self._take_head(head, out)
            return at + end - known
        if len(section) >= _HEAD_LIMIT:
            self._note_asked(section)
            raise TooLarge(f"the head of the request has more than {HEAD_BYTES_MAX} bytes")
        if not self._begun and section[:1] != b"\r":
            self._begun = True
            out.append(bytes(section[:1]))
        return len(data)

    def _take_head(self, text: bytes, out: list[bytes]) -> None:
        try:
            head = _recall_head(text) if len(text) <= REMEMBERED_BYTES_MAX else check_head(text)
        except BadRequest:
            self._note_asked(text)
            raise
        out.append(head.text[1:] if self._begun else head.text)
        self._begun = self._skipped = False
        if head.length == 0:
            return
        if head.length is None:
            self._announced, self._read = 0, Framing._read_size
        else:
            self._left, self._read = head.length, Framing._read_body

    def _note_asked(self, text: bytes | bytearray) -> None:
        line = _REQUEST_LINE.match(text)
        if line is not None:
            self.asked = line[1].decode("ascii"), line[2].decode("ascii")

    def _read_body(self, data: bytes, at: int, out: list[bytes]) -> int:
        piece = data[at : at + self._left]
        out.append(piece)
        self._left -= len(piece)
        if not self._left:
            self._read = _READ_HEAD
        return at + len(piece)

    def _read_size(self, data: bytes, at: int, out: list[bytes]) -> int:
        known = len(self._section)
        line = self._section + data[at : at + _SIZE_LINE_BYTES_MAX - known]
        found = _SIZE_LINE.match(line)
        if found is None:
            part = _SIZE_LINE_PART.match(line)
            assert part is not None, "nothing at all matches too"
            if part.end() < len(line):
                raise _refuse_size_line(bytes(line[: part.end() + 1]))
            self._section = line
            return len(data)
        self._forget_section()
        self._left = int(found[1], 16)
        self._announced += self._left
        self._read = Framing._read_chunk if self._left else Framing._read_trailers
        return at + found.end() - known

    def _read_chunk(self, data: bytes, at: int, out: list[bytes]) -> int:
        piece = data[at : at + self._left]
        self._chunk.append(piece)
        self._left -= len(piece)
        if not self._left:
            self._left, self._read = len(CRLF), Framing._read_chunk_end
        return at + len(piece)

    def _read_chunk_end(self, data: bytes, at: int, out: list[bytes]) -> int:
        piece = data[at : at + self._left]
        if not CRLF[-self._left :].startswith(piece):
            raise BadRequest("the data of a chunk does not end in CRLF after as many bytes as the chunk's size says")
        self._left -= len(piece)
        if not self._left:
            self._read = Framing._read_size
        return at + len(piece)

    def _read_trailers(self, data: bytes, at: int, out: list[bytes]) -> int:
        known = len(self._section)
        end = self._collect(data, at, _TRAILER_LIMIT, is_head=False)
        if not end:
            if len(self._section) >= _TRAILER_LIMIT:
                raise BadRequest(f"the trailers after the last chunk have more than {TRAILER_BYTES_MAX} bytes")
            return len(data)
        self._forget_section()
        self._flush_chunk(out)
        out.append(b"0" + HEAD_END)
        self._read = _READ_HEAD
        return at + end - known

    def _collect(self, data: bytes, at: int, bytes_max: int, *, is_head: bool) -> int:
        """Take what may belong to the section.

        :return: where the section ends, after its empty line; 0 if that has not come.
        :raises BadRequest: if something in it is malformed, as soon as that is certain.
        """
        section = self._section
        known = len(section)
        section += data[at : at + bytes_max - known]
        if section.find(b"\n", known) >= 0:
            self._checked = _check_lines(section, self._checked, is_head=is_head)
            if section.startswith(CRLF, self._checked):
                return self._checked + len(CRLF)
        if _FORBIDDEN.search(section, max(self._checked, self._seen)):
            line = bytes(section[self._checked :])
            raise _refuse_field_line(line) if self._checked or not is_head else _refuse_request_line(line)
        self._seen = len(section) - section.endswith(b"\r")
        return 0

    def _forget_section(self) -> None:
        self._section.clear()
        self._checked = self._seen = 0

    def _flush_chunk(self, out: list[bytes]) -> None:
        """Hand on what came of chunks as one."""
        if self._chunk:
            out.append(b"%x\r\n" % sum(map(len, self._chunk)))
            out += self._chunk
            out.append(CRLF)
            self._chunk = []


_READ_HEAD = Framing._read_head
