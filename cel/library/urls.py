"""URLs, read as Go's net/url reads a request's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote

from pilothouse.cel.interfaces import EvaluationError
from pilothouse.cel.operators import no_overload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_U = "kubernetes.URL"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):", re.ASCII)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HOST = re.compile(r"(?:\[[^\]]*\]|[^\[\]:\s]*)(?::[0-9]*)?", re.ASCII)
_BAD_HOST = re.compile(r'[\s<>"\\^`{|}]')
_PATH_SAFE = "!$&'()*+,/:;=@-._~"


class URL:
    """``text`` is as it was written."""

    __slots__ = ("host", "path", "query", "scheme", "text")
    type_name = _U

    def __init__(self, text: str, scheme: str, host: str, path: str, query: str) -> None:
        self.text = text
        self.scheme = scheme
        self.host = host
        self.path = path
        """As it was written, with its escapes."""
        self.query = query

    def __eq__(self, other: object) -> bool:
        return isinstance(other, URL) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def hostname(self) -> str:
        if self.host.startswith("["):
            return self.host[1:].partition("]")[0]
        return self.host.partition(":")[0]

    def port(self) -> str:
        return self.host.rpartition("]")[2].partition(":")[2]

    def escaped_path(self) -> str:
        plain = unquote(self.path)
        valid = re.fullmatch(r"[A-Za-z0-9!$&'()*+,/:;=@\-._~\[\]%]*", self.path, re.ASCII)
        return self.path if valid else quote(plain, safe=_PATH_SAFE)


def parse_url(text: str) -> URL:
    """url.ParseRequestURI, then url.Parse.

    :raises ValueError: with Go's text.
    """

    def failed(why: str) -> ValueError:
        return ValueError(f'parse "{text}": {why}')

    if any(ord(char) < 0x20 or ord(char) == 0x7F for char in text):
        raise failed("net/url: invalid control character in URL")
    if not text:
        raise failed("empty url")
    match = _SCHEME.match(text)
    if match is None and text.startswith(":"):
        raise failed("missing protocol scheme")
    scheme, rest = (match[1].lower(), text[match.end() :]) if match else ("", text)
    if text == "*":
        return URL(text, "", "", "*", "")
    if not rest.startswith("/"):
        if scheme:
            return URL(text, scheme, "", "", rest.partition("#")[0].partition("?")[2])
        raise failed("invalid URI for request")
    rest = rest.partition("#")[0] if scheme or text.startswith("/") else rest
    rest, _, query = rest.partition("?")
    host = ""
    if rest.startswith("//") and (scheme or not rest.startswith("///")):
        host, slash, path = rest[2:].partition("/")
        rest = slash + path
        host = host.rpartition("@")[2]
        if not _HOST.fullmatch(host):
            if _BAD_HOST.search(host):
                bad = _BAD_HOST.search(host)
                assert bad is not None
                raise failed(f'invalid character "{bad[0]}" in host name')
            port = host.rpartition(":")[2]
            raise failed(f'invalid port ":{port}" after host')
        if _BAD_HOST.search(host):
            raise failed("invalid character in host name")
    bad = _BAD_ESCAPE.search(rest)
    if bad is not None:
        raise failed(f'invalid URL escape "{rest[bad.start() : bad.start() + 3]}"')
    return URL(text, scheme, host, rest, query)


def _url(text: Any) -> URL:
    if type(text) is not str:
        raise no_overload()
    try:
        return parse_url(text)
    except ValueError as error:
        prefix = "URL parse error during conversion from string: "
        raise EvaluationError(f"{prefix}{error}") from None


def _is_url(text: Any) -> bool:
    if type(text) is not str:
        raise no_overload()
    try:
        parse_url(text)
    except ValueError:
        return False
    return True


def rows() -> Iterator[tuple[str, str, Callable[..., Any]]]:
    yield "string_to_url", f"url(string) -> {_U}", _url
    yield "url_get_scheme", f"{_U}|getScheme() -> string", lambda u: u.scheme
    yield "url_get_host", f"{_U}|getHost() -> string", lambda u: u.host
    yield "url_get_hostname", f"{_U}|getHostname() -> string", lambda u: u.hostname()
    yield "url_get_port", f"{_U}|getPort() -> string", lambda u: u.port()
    yield "url_get_escaped_path", f"{_U}|getEscapedPath() -> string", lambda u: u.escaped_path()
    yield (
        "url_get_query",
        f"{_U}|getQuery() -> map(string, list(string))",
        lambda u: parse_qs(u.query, keep_blank_values=True),
    )
    yield "is_url_string", "isURL(string) -> bool", _is_url
