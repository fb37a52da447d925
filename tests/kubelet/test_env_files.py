"""fileKeyRef: the format of the file, and where it may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilothouse.kubelet.env_files import parse, value_from_file
from pilothouse.kubelet.interfaces import ContainerConfigError, MountedVolume

FILE = """\
# a comment

A='one'
  B='two # not a comment' # one
C='three
 lines
' # end
D= 'ignored'
E=''
A='again'
"""


@pytest.mark.parametrize(
    ("key", "value"),
    [("A", "one"), ("B", "two # not a comment"), ("C", "three\n lines\n"), ("D", ""), ("E", "")],
)
def test_values(key: str, value: str) -> None:
    assert parse(FILE, key) == value
    assert parse(FILE.replace("\n", "\r\n"), key) == value


def test_no_such_key() -> None:
    assert parse(FILE, "Z") == ""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("A", "line 1: missing '='"),
        ("#\n ='x'", "line 2: empty variable name"),
        ("A ='x'", "line 1: whitespace before '=' is not allowed"),
        ("A=x", "line 1: value must be enclosed in single quotes"),
        ("A='x\ny' z", "line 2: unexpected content after closing quote"),
        ("\nA='x\n", "starting at line 2: unclosed single quote"),
    ],
)
def test_bad_lines(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse(text, "Z")
    assert parse("Z='first'\n" + text, "Z") == "first"


def test_files_in_volumes(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("A='not yours'\n")
    volume = tmp_path / "volume"
    (volume / "sub").mkdir(parents=True)
    (volume / "sub/env").write_text(FILE)
    (volume / "link").symlink_to("../secret")
    mounted = {"v": MountedVolume(str(volume)), "fake": MountedVolume("")}

    def value(path: str, key: str = "A", name: str = "v", **more: bool) -> str | None:
        return value_from_file({"volumeName": name, "path": path, "key": key, **more}, mounted)

    assert value("sub/env") == "one"
    assert value("sub/env", "Z", optional=True) is None
    assert value("any", name="fake") is None
    with pytest.raises(ContainerConfigError, match='key "Z" not found in file "'):
        value("sub/env", "Z")
    for path in ("missing", "link", "../secret"):
        with pytest.raises(ContainerConfigError, match="couldn't parse env file"):
            value(path)
    with pytest.raises(ContainerConfigError, match='cannot find the volume "x"'):
        value("env", name="x")
