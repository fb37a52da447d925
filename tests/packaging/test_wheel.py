"""The wheel that is built from the sdist holds every module, once, under one name."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = sorted(p.name for p in (ROOT / "src" / "pilothouse").iterdir() if p.is_symlink())


def build(source: Path, target: str, out: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)],
        cwd=source, check=True, capture_output=True,
    )  # fmt: skip
    (made,) = out.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return made


def test_wheel_from_sdist(tmp_path: Path) -> None:
    sdist = build(ROOT, "sdist", tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.glob("pilothouse-*")
    wheel = build(unpacked, "wheel", tmp_path / "wheel")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    assert {n.split("/")[0] for n in names if ".dist-info/" not in n} == {"pilothouse"}
    assert "pilothouse/py.typed" in names  # others' type checkers read our types
    assert any(name.endswith("licenses/LICENSE") for name in names)
    for part in PARTS:
        for path in (ROOT / part).rglob("*"):
            if path.suffix in (".py", ".json"):
                assert f"pilothouse/{path.relative_to(ROOT)}" in names, path
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import pilothouse, pilothouse.cli;"
        "assert pilothouse.__file__.startswith(sys.argv[1]), pilothouse.__file__;"
        "from pilothouse import Cluster\n"
        "with Cluster() as c: print(len(c.client.list(__import__('pilothouse.kubeclient.resources',"
        "fromlist=['NODES']).NODES).items))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "site")],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout.strip() == "1", done.stderr
