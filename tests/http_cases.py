"""Requests that are malformed, with what is told of them, and odd ones that are not, with their bodies."""

from scoreboard.http.framing import EXTENSION_BYTES_MAX, HEAD_BYTES_MAX, SIZE_DIGITS_MAX, TRAILER_BYTES_MAX

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def head(*lines: bytes, line: bytes = b"GET / HTTP/1.1") -> bytes:
    return b"\r\n".join([line, b"Host: a", *lines, b"", b""])


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
    "nul-in-value": (head(b"X: \0"), "the control character U+0000 in the header 'X'"),
    "escape-in-value": (head(b"X: \x1b[2J"), "U+001B"),
    "delete-in-value": (head(b"X: a\x7f"), "U+007F"),
    "nul-in-name": (head(b"X\0: a"), "the control character U+0000 in the name of a header"),
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
    "nul-in-target": (head(line=b"GET /\0 HTTP/1.1"), "the control character U+0000 in the request line"),
    "target-asterisk": (head(line=b"GET * HTTP/1.1"), "the request target is '*', which goes with OPTIONS"),
    "target-word": (head(line=b"GET foo HTTP/1.1"), "the request target is 'foo': it has to be a path"),
    "target-authority": (head(line=b"CONNECT a:80 HTTP/1.1"), "the request target is 'a:80'"),
    "target-without-host": (head(line=b"GET http:/// HTTP/1.1"), "the request target is 'http:///'"),
    "target-of-odd-host": (head(line=b"GET http://a@b/ HTTP/1.1"), "the request target is 'http://a@b/'"),
    "target-of-another-scheme": (head(line=b"GET ftp://a/ HTTP/1.1"), "the request target is 'ftp://a/'"),
    "no-version": (head(line=b"GET /"), "the request line is 'GET /'"),
    "version-0.9": (head(line=b"GET / HTTP/0.9"), "the version is 'HTTP/0.9'"),
    "version-1.2": (head(line=b"GET / HTTP/1.2"), "the version is 'HTTP/1.2'"),
    "version-2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "the version is 'HTTP/2.0'"),
    "version-lower-case": (head(line=b"GET / http/1.1"), "the version is 'http/1.1'"),
    "version-01.1": (head(line=b"GET / HTTP/01.1"), "the version is"),
    "two-empty-lines-first": (b"\r\n\r\n" + GET, "the request line is ''"),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "the control character U+0016 in the request line"),
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
    "absolute-target-in-capitals": (head(line=b"GET HTTP://A:80/ HTTP/1.1"), b""),
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
