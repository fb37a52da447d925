"""Layers into directories: whiteouts, links, modes, and archives that mean harm."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.kubelet.images.unpack import DamagedLayer, Unpacked, merge, unpack_layer

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def tar(*members: dict[str, Any]) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for fields in members:
            fields = dict(fields)
            content = fields.pop("content", "").encode()
            member = tarfile.TarInfo(fields.pop("name"))
            member.size = len(content)
            member.uid, member.gid = os.getuid(), os.getgid()
            for key, value in fields.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(content))
    buffer.seek(0)
    return buffer


def file(name: str, content: str = "", **fields: Any) -> dict[str, Any]:
    return {"name": name, "content": content, "mode": 0o644, **fields}


def folder(name: str, mode: int = 0o755) -> dict[str, Any]:
    return {"name": name, "type": tarfile.DIRTYPE, "mode": mode}


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> dict[str, Any]:
    return {"name": name, "type": kind, "linkname": target, "mode": 0o777}


def unpack(root: Path, *members: dict[str, Any]) -> Unpacked:
    root.mkdir(exist_ok=True)
    return unpack_layer(tar(*members), str(root), keep_owner=os.geteuid() == 0)


def test_files_links_and_modes(tmp_path: Path) -> None:
    unpacked = unpack(
        tmp_path / "l",
        folder("bin", 0o1777),
        file("bin/su", "x", mode=0o4755, mtime=1_000_000),
        link("bin/hard", "bin/su", tarfile.LNKTYPE),
        link("bin/soft", "/bin/su"),
        file("./deep/er/file", "y"),
        {"name": "pipe", "type": tarfile.FIFOTYPE, "mode": 0o600},
    )
    root = tmp_path / "l"
    assert stat.S_IMODE((root / "bin/su").stat().st_mode) == 0o4755
    assert stat.S_IMODE((root / "bin").stat().st_mode) == 0o1777
    assert (root / "bin/su").stat().st_mtime == 1_000_000
    assert (root / "bin/hard").samefile(root / "bin/su")
    assert os.readlink(root / "bin/soft") == "/bin/su"
    assert (root / "deep/er/file").read_text() == "y"
    assert stat.S_ISFIFO((root / "pipe").stat().st_mode)
    assert unpacked.diff_id.startswith("sha256:")
    assert not unpacked.whiteouts


@needs_root
def test_owners_and_devices(tmp_path: Path) -> None:
    unpack(
        tmp_path / "l",
        file("a", uid=123, gid=456),
        {"name": "null", "type": tarfile.CHRTYPE, "mode": 0o666, "devmajor": 1, "devminor": 3},
    )
    state = (tmp_path / "l/a").stat()
    assert (state.st_uid, state.st_gid) == (123, 456)
    assert (tmp_path / "l/null").stat().st_rdev == os.makedev(1, 3)


@needs_root
def test_whiteouts_become_what_overlayfs_reads(tmp_path: Path) -> None:
    unpacked = unpack(
        tmp_path / "l", folder("d"), file("d/.wh.gone"), folder("o"), file("o/.wh..wh..opq")
    )
    assert (unpacked.whiteouts, unpacked.opaques) == (["d/gone"], ["o"])
    state = (tmp_path / "l/d/gone").lstat()
    assert stat.S_ISCHR(state.st_mode)
    assert state.st_rdev == 0
    assert not (tmp_path / "l/o/.wh..wh..opq").exists()


def test_merging_layers(tmp_path: Path) -> None:
    lower = unpack(
        tmp_path / "1", file("keep", "1"), file("old", "1"), file("o/a"), file("o/b"), file("f")
    )
    upper = unpack(
        tmp_path / "2", file(".wh.old"), file("keep", "2"), file("o/.wh..wh..opq"), file("o/c"),
        folder("f"), file("f/inside", "x"),
    )  # fmt: skip
    target = tmp_path / "m"
    target.mkdir()
    merge([(str(tmp_path / "1"), lower), (str(tmp_path / "2"), upper)], str(target))
    assert (target / "keep").read_text() == "2"
    assert not (target / "old").exists()
    assert sorted(os.listdir(target / "o")) == ["c"]
    assert (target / "f/inside").read_text() == "x"


@pytest.mark.parametrize("entry", ["a/etc/.wh.passwd", "a/etc/.wh..wh..opq"])
def test_merging_never_clears_what_a_link_of_a_lower_layer_leads_to(
    tmp_path: Path, entry: str
) -> None:
    machine = tmp_path / "machine"
    (machine / "etc").mkdir(parents=True)
    (machine / "etc/passwd").write_text("root")
    lower = unpack(tmp_path / "1", link("a", str(machine)))
    upper = unpack(tmp_path / "2", file(entry), file("a/etc/new", "x"))
    target = tmp_path / "m"
    target.mkdir()
    merge([(str(tmp_path / "1"), lower), (str(tmp_path / "2"), upper)], str(target))
    assert (machine / "etc/passwd").read_text() == "root"
    assert os.listdir(machine / "etc") == ["passwd"]
    assert (target / "a/etc/new").read_text() == "x"


def test_a_later_entry_wins(tmp_path: Path) -> None:
    unpack(
        tmp_path / "l", folder("a"), file("a/x"), file("a", "now a file"), folder("a2"),
        link("a2", "elsewhere"), file("b", "1"), file("b", "2"),
    )  # fmt: skip
    assert (tmp_path / "l/a").read_text() == "now a file"
    assert os.readlink(tmp_path / "l/a2") == "elsewhere"
    assert (tmp_path / "l/b").read_text() == "2"


@pytest.mark.parametrize(
    "members",
    [
        [file("../escape", "x")],
        [file("a/../../escape", "x")],
        [link("h", "../../../etc/passwd", tarfile.LNKTYPE)],
        [file("f"), file("f/below")],
        [link("a", "b"), link("b", "a"), file("a/x")],
    ],
)
def test_what_is_unsafe_or_broken_is_refused(tmp_path: Path, members: list[Any]) -> None:
    with pytest.raises(DamagedLayer):
        unpack(tmp_path / "l", *members)
    assert not (tmp_path / "escape").exists()


@pytest.mark.parametrize("target", ["/", "/..", "../../..", "../outside", "/outside", "x/../../.."])
def test_links_in_parents_stay_inside(tmp_path: Path, target: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    unpack(tmp_path / "l", link("way", target), file("way/evil", "x"), file("way/d/e", "y"))
    assert list(outside.iterdir()) == []
    assert not (tmp_path / "evil").exists()
    assert not Path("/evil").exists()


def test_a_hard_link_can_not_reach_outside_through_a_link(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")
    with pytest.raises(DamagedLayer):
        unpack(tmp_path / "l", link("d", str(tmp_path)), link("h", "d/secret", tarfile.LNKTYPE))


def test_a_whiteout_can_not_remove_outside(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("alive")
    unpack(tmp_path / "l", link("up", ".."), file("up/.wh.victim"), file(".wh..."), file(".wh."))
    assert (tmp_path / "victim").read_text() == "alive"


def test_damaged_archives(tmp_path: Path) -> None:
    good = tar(file("a", "x" * 5000)).getvalue()
    packed = gzip.compress(good)
    for number, data in enumerate((b"", b"no tar at all" * 100, packed[:-20], packed[:50])):
        root = tmp_path / str(number)
        root.mkdir()
        with pytest.raises(DamagedLayer):
            unpack_layer(io.BytesIO(data), str(root), keep_owner=False)


names = st.lists(st.sampled_from(["a", "b", "..", ".", "c", ".wh.a", ""]), min_size=1, max_size=4)
entries = st.lists(
    st.tuples(st.sampled_from(["file", "dir", "sym", "hard"]), names, names), max_size=8
)


@given(entries=entries)
def test_no_archive_touches_the_outside(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[str, list[str], list[str]]]
) -> None:
    base = tmp_path_factory.mktemp("fuzz")
    (base / "a").write_text("outside")
    root = base / "root"
    members = []
    for kind, name_parts, target_parts in entries:
        name, target = "/".join(name_parts), "/".join(target_parts)
        if kind == "file":
            members.append(file(name, "x"))
        elif kind == "dir":
            members.append(folder(name))
        else:
            members.append(
                link(name, target, tarfile.SYMTYPE if kind == "sym" else tarfile.LNKTYPE)
            )
    try:
        unpack(root, *members)
    except DamagedLayer:
        pass
    assert sorted(os.listdir(base)) == ["a", "root"]
    assert (base / "a").read_text() == "outside"
