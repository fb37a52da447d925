"""Clients are told whose certificates are wanted, as OpenSSL's own client sees it."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from pilothouse.apimachinery.clock import RealClock
from pilothouse.componentbase.certs import make_ca, make_serving_cert, save_pair
from pilothouse.componentbase.serving.client_authorities import name_client_authorities
from pilothouse.componentbase.serving.tls import server_context


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
async def test_a_client_sees_the_subjects_of_all_files(tmp_path: Path) -> None:
    now = RealClock().now()
    names = ("clients", "front-proxy")
    for name in names:
        (tmp_path / name).write_bytes(make_ca(name, now=now).cert)
    save_pair(tmp_path, "server", make_serving_cert(make_ca("ca", now=now), "server", now=now))
    files = [str(tmp_path / name) for name in names]
    context = server_context(str(tmp_path / "server.crt"), str(tmp_path / "server.key"), files[0])
    assert name_client_authorities(context, files)

    server = await asyncio.start_server(lambda _, w: w.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        host, port = server.sockets[0].getsockname()
        process = await asyncio.create_subprocess_exec(
            "openssl", "s_client", "-connect", f"{host}:{port}",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        output, _ = await process.communicate()
    told = output.decode().partition("Acceptable client certificate CA names\n")[2]
    assert [line.replace(" ", "") for line in told.splitlines()[:2]] == [f"CN={n}" for n in names]


def test_an_unreadable_file_changes_nothing(tmp_path: Path) -> None:
    now = RealClock().now()
    save_pair(tmp_path, "server", make_serving_cert(make_ca("ca", now=now), "server", now=now))
    context = server_context(str(tmp_path / "server.crt"), str(tmp_path / "server.key"))
    assert not name_client_authorities(context, [str(tmp_path / "none")])
