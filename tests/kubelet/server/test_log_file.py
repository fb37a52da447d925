from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.kubelet.server import log_file
from pilothouse.kubelet.server.log_file import LogFile
from pilothouse.kubelet.server.log_format import LogOptions

STAMP = b"2026-11-23T11:00:00.000000001Z stdout F "


def line(text: object) -> bytes:
    return STAMP + str(text).encode() + b"\n"


def read(file: LogFile) -> bytes:
    """All that is there now."""
    out, more = b"", not file.done
    while more:
        chunk, more = file.step()
        out += chunk
    return out


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "0.log"


@settings(max_examples=60)
@given(st.lists(st.integers(0, 10**9), max_size=40), st.integers(0, 45), st.integers(8, 400))
def test_tail_in_any_block_size(
    tmp_path_factory: pytest.TempPathFactory, values: list[int], tail: int, block: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "tail.log"
    path.write_bytes(b"".join(map(line, values)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_file, "CHUNK", block)
        file = LogFile(str(path), LogOptions(tail_lines=tail))
        got = read(file)
        file.close()
    expected = values[len(values) - tail :] if tail < len(values) else values
    assert got.split() == [str(value).encode() for value in expected]


def test_what_comes_after_the_tail_is_not_shown(path: Path) -> None:
    path.write_bytes(line(1) + line(2))
    file = LogFile(str(path), LogOptions(tail_lines=1))
    with path.open("ab") as more:
        more.write(line(3))
    assert read(file) == b"2\n"
    assert file.done


def test_a_last_line_without_its_end(path: Path) -> None:
    path.write_bytes(line(1) + STAMP + b"half")
    file = LogFile(str(path), LogOptions())
    assert read(file) == b"1\n"
    with path.open("ab") as more:
        more.write(b" a line\n" + STAMP + b"rest")
    assert read(file) == b"half a line\n"
    assert file.finish() == b"rest"
    tail = LogFile(str(path), LogOptions(tail_lines=1))
    assert read(tail) + tail.finish() == b"rest"


def test_rotation_under_the_reader(path: Path) -> None:
    path.write_bytes(line(1))
    file = LogFile(str(path), LogOptions(follow=True))
    assert read(file) == b"1\n"
    with path.open("ab") as old:
        path.rename(path.with_suffix(".rotated"))
        assert read(file) == b""  # there is no new file yet
        old.write(line(2))
        old.flush()
        path.write_bytes(line(3))
        assert read(file) == b"2\n3\n"
    path.with_suffix(".rotated").unlink()
    assert read(file) == b""
    file.close()


def test_a_file_that_is_cut(path: Path) -> None:
    path.write_bytes(line(1) + line(2))
    file = LogFile(str(path), LogOptions(follow=True))
    assert read(file) == b"1\n2\n"
    path.write_bytes(b"")
    assert read(file) == b""
    with path.open("ab") as more:
        more.write(line(3))
    assert read(file) == b"3\n"


def test_a_line_without_end_does_not_fill_the_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_file, "MAX_LINE", 1000)
    path.write_bytes(b"x" * 5000 + b"\n" + line(1))
    assert read(LogFile(str(path), LogOptions())) == b"1\n"


def test_closed_while_a_step_is_on_its_way(path: Path) -> None:
    path.write_bytes(line(1))
    file = LogFile(str(path), LogOptions())
    file.close()
    file.close()
    assert file.step() == (b"", False)


def test_missing(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LogFile(os.fspath(path), LogOptions())
