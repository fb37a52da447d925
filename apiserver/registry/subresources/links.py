"""Links in proxied answers: absolute paths of the backend, led through the proxy again.

What a pod serves at ``/x`` is at ``…/pods/name/proxy/x`` here; Location headers and the URLs in
HTML are rewritten so that a browser stays below the proxy's path.
"""

from __future__ import annotations

import asyncio
import html
import posixpath
import re
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from pilothouse.apiserver.request.context import Response

MAX_HTML = 8 << 20
"""Larger pages pass through as they are."""
_URL_ATTRIBUTES = {
    "a": "href", "applet": "codebase", "area": "href", "audio": "src", "base": "href",
    "blockquote": "cite", "body": "background", "button": "formaction", "command": "icon",
    "del": "cite", "embed": "src", "form": "action", "frame": "longdesc src", "head": "profile",
    "html": "manifest", "iframe": "longdesc src", "img": "longdesc src usemap",
    "input": "src usemap formaction", "ins": "cite", "link": "href",
    "object": "classid codebase data usemap", "q": "cite", "script": "src", "source": "src",
    "video": "poster src",
}  # fmt: skip
_RAW_TEXT = ("script", "style", "textarea", "title")
_TAG = re.compile(r"""<([a-zA-Z][^\s/>]*)((?:[^>"']|"[^"]*"|'[^']*')*)>""")
_ATTRIBUTE = re.compile(r"""(\s)([a-zA-Z-]+)(\s*=\s*)("[^"]*"|'[^']*'|[^\s"'>]+)""")


@dataclass(frozen=True, slots=True)
class Links:
    """``prefix`` is the path up to and with ``/proxy``; ``backend`` and ``client_host`` are what
    the backend is called by us and by the client (``host:port``)."""

    prefix: str
    backend: str
    client_host: str

    def rewrite(self, text: str) -> str:
        """One URL; another host's, a relative or a malformed one stays as it is."""
        try:
            url = urlsplit(text)
        except ValueError:
            return text
        other_host = url.netloc and url.netloc not in (self.backend, self.client_host)
        if other_host or not url.path.startswith("/"):
            return text
        if url.netloc != self.client_host:
            url = url._replace(scheme="", netloc="")
        path = url.path
        if not path.startswith(self.prefix):
            path = posixpath.normpath(self.prefix + path)
            if url.path.endswith("/"):
                path += "/"
        return urlunsplit(url._replace(path=path))

    def apply(self, response: Response) -> Response:
        """The answer with its Location, or the links in its HTML, rewritten."""
        headers = dict(response.headers)
        if headers.get("location"):
            response.headers = [
                (name, self.rewrite(value) if name == "location" else value)
                for name, value in response.headers
            ]
            return response
        kind = response.content_type.partition(";")[0].strip().lower()
        encoding = headers.get("content-encoding", "")
        if kind == "text/html" and encoding in ("", "gzip") and response.chunks is not None:
            response.headers = [h for h in response.headers if h[0] != "content-encoding"]
            response.chunks = self._page(response, response.chunks, encoding)
        return response

    async def _page(
        self, response: Response, chunks: AsyncIterator[bytes], encoding: str
    ) -> AsyncIterator[bytes]:
        plain = zlib.decompressobj(wbits=31) if encoding else None
        collected = bytearray()
        whole = True
        try:
            async for chunk in chunks:
                collected += plain.decompress(chunk) if plain is not None else chunk
                if not whole or len(collected) > MAX_HTML:
                    whole = False
                    yield bytes(collected)
                    collected.clear()
        finally:
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()  # the connection to the backend with it
        if whole:
            yield await asyncio.to_thread(self.rewrite_html, bytes(collected))

    def rewrite_html(self, page: bytes) -> bytes:
        text = page.decode("utf-8", "surrogateescape")
        out: list[str] = []
        position = 0
        while (start := text.find("<", position)) >= 0:
            if text.startswith("<!--", start):
                end = text.find("-->", start)
                end = len(text) if end < 0 else end + 3
                out.append(text[position:end])
                position = end
                continue
            if not text[start + 1 : start + 2].isalpha():
                out.append(text[position : start + 1])
                position = start + 1
                continue
            match = _TAG.match(text, start)
            if match is None:
                break  # a tag that never ends: the rest is its
            out += (text[position:start], self._tag(match))
            position = match.end()
            name = match[1].lower()
            if name in _RAW_TEXT:
                closing = re.compile(f"</{name}", re.IGNORECASE).search(text, position)
                end = closing.start() if closing else len(text)
                out.append(text[position:end])
                position = end
        out.append(text[position:])
        return "".join(out).encode("utf-8", "surrogateescape")

    def _tag(self, match: re.Match[str]) -> str:
        wanted = _URL_ATTRIBUTES.get(match[1].lower(), "").split()
        if not wanted:
            return match[0]

        def attribute(found: re.Match[str]) -> str:
            if found[2].lower() not in wanted:
                return found[0]
            value = html.unescape(found[4].strip("\"'"))
            return f'{found[1]}{found[2]}{found[3]}"{html.escape(self.rewrite(value))}"'

        return f"<{match[1]}{_ATTRIBUTE.sub(attribute, match[2])}>"
