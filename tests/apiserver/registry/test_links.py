from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apiserver.registry.subresources.links import MAX_HTML, Links
from pilothouse.apiserver.request.context import Response

PREFIX = "/api/v1/namespaces/default/pods/p/proxy"
LINKS = Links(PREFIX, "10.0.0.1:80", "localhost:8001")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("/rewriteme", f"{PREFIX}/rewriteme"),
        ("/", f"{PREFIX}/"),
        ("/a/b/?q=1#x", f"{PREFIX}/a/b/?q=1#x"),
        ("http://10.0.0.1:80/x", f"{PREFIX}/x"),
        ("http://localhost:8001/x", f"http://localhost:8001{PREFIX}/x"),
        (f"{PREFIX}/x", f"{PREFIX}/x"),
        ("relative/x", "relative/x"),
        ("#top", "#top"),
        ("", ""),
        ("mailto:someone@example.com", "mailto:someone@example.com"),
        ("https://example.com/x", "https://example.com/x"),
        ("//example.com/x", "//example.com/x"),
        ("http://[broken/x", "http://[broken/x"),
    ],
)
def test_urls(url: str, expected: str) -> None:
    assert LINKS.rewrite(url) == expected


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ('<a href="/x">t</a>', f'<a href="{PREFIX}/x">t</a>'),
        ("<A class=b HREF='/x'>t</A>", f'<A class=b HREF="{PREFIX}/x">t</A>'),
        ("<img src=/i.png alt='/x'/>", f"<img src=\"{PREFIX}/i.png\" alt='/x'/>"),
        ('<a href="/x?a=1&amp;b=2">', f'<a href="{PREFIX}/x?a=1&amp;b=2">'),
        ('<p title="<a href=/x>">', '<p title="<a href=/x>">'),
        ('<!-- <a href="/x"> --><b>', '<!-- <a href="/x"> --><b>'),
        ('<!-- <a href="/x">', '<!-- <a href="/x">'),
        (
            '<script src="/s.js">if (1 < x) y = \'<a href="/z">\'</script><a href="/x">',
            f'<script src="{PREFIX}/s.js">if (1 < x) y = \'<a href="/z">\'</script>'
            f'<a href="{PREFIX}/x">',
        ),
        ('1 < 2 <a href="/x">', f'1 < 2 <a href="{PREFIX}/x">'),
        ('<a href="/x', '<a href="/x'),
        ("no tags at all", "no tags at all"),
    ],
)
def test_pages(page: str, expected: str) -> None:
    assert LINKS.rewrite_html(page.encode()) == expected.encode()


@given(st.text("<>a href=\"'/!-scriptx", max_size=200))
def test_pages_without_absolute_links_stay(page: str) -> None:
    if "href" not in page and "src" not in page:
        assert LINKS.rewrite_html(page.encode()) == page.encode()


@given(st.binary(max_size=300))
def test_any_bytes(page: bytes) -> None:
    LINKS.rewrite_html(page)


def test_hostile_pages_take_linear_time() -> None:
    started = time.perf_counter()
    for page in (b'<a "' * 200_000, b"<a " * 200_000, b"<!--" * 200_000, b"<script>" * 100_000):
        LINKS.rewrite_html(page)
    assert time.perf_counter() - started < 5


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def body(response: Response) -> bytes:
    assert response.chunks is not None
    async with asyncio.timeout(5):
        return b"".join([chunk async for chunk in response.chunks])


async def test_answers() -> None:
    page = LINKS.apply(Response(content_type="text/html; x", chunks=chunks(b"<a hr", b'ef="/x">')))
    assert await body(page) == f'<a href="{PREFIX}/x">'.encode()
    plain = LINKS.apply(Response(content_type="text/plain", chunks=chunks(b'<a href="/x">')))
    assert await body(plain) == b'<a href="/x">'
    moved = LINKS.apply(Response(302, headers=[("location", "/login"), ("x", "/y")]))
    assert moved.headers == [("location", f"{PREFIX}/login"), ("x", "/y")]


async def test_compressed_pages() -> None:
    packed = gzip.compress(b'<a href="/x">')
    headers = [("content-encoding", "gzip"), ("etag", "1")]
    page = LINKS.apply(Response(content_type="text/html", headers=headers, chunks=chunks(packed)))
    assert await body(page) == f'<a href="{PREFIX}/x">'.encode()
    assert page.headers == [("etag", "1")]
    unknown = Response(
        content_type="text/html", headers=[("content-encoding", "br")], chunks=chunks(b"?")
    )
    assert await body(LINKS.apply(unknown)) == b"?"


async def test_pages_that_are_too_large_pass_through() -> None:
    big = b'<a href="/x">' + b"x" * MAX_HTML
    page = LINKS.apply(Response(content_type="text/html", chunks=chunks(big, b"end")))
    assert await body(page) == big + b"end"
