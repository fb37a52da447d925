"""What the commands do with mistakes: one line, an exit code, nothing removed that is not ours."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from pilothouse.cli import main
from pilothouse.cli.fetch import reason
from pilothouse.cli.logs import follow
from pilothouse.cluster.daemon import next_commands
from pilothouse.cluster.state import ClusterState, ProcessId, this_process


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PILOTHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    return tmp_path / "home"


def a_cluster(directory: Path, log: str = "") -> Path:
    ClusterState(name=directory.name, process=ProcessId(1, 0), ready=True).save(directory)
    (directory / "logs").mkdir()
    (directory / "logs" / "pilothouse.log").write_text(log)
    return directory


@pytest.mark.parametrize("name", ["", "..", "../..", "a/b", "/etc"])
def test_a_name_never_leads_out_of_the_clusters(
    home: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    a_cluster(home / "clusters" / "one")
    assert main(["down", "--delete", "--name", name]) == 1
    assert "use at most 32 lower-case letters" in capsys.readouterr().err
    assert (home / "clusters" / "one" / "cluster.json").exists()


def test_a_directory_that_is_no_clusters_is_not_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert main(["down", "--delete", "--data-dir", str(tmp_path / "mine")]) == 1
    assert "is no cluster's directory" in capsys.readouterr().err
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_clusters_own_directory_is_removed(tmp_path: Path) -> None:
    directory = a_cluster(tmp_path / "data")
    assert main(["down", "--delete", "--data-dir", str(directory)]) == 0
    assert not directory.exists()


def test_a_cluster_that_is_down_is_not_ready(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a_cluster(home / "clusters" / "one")
    assert main(["status", "--name", "one", "-o", "json"]) == 3
    described = json.loads(capsys.readouterr().out)
    assert not described["running"] and not described["ready"]


def test_a_cluster_that_is_up_but_not_ready(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = a_cluster(home / "clusters" / "one")
    state = ClusterState(name="one", process=this_process(), storage="memory")
    state.save(directory)
    assert main(["status", "--name", "one", "-o", "json"]) == 4
    described = json.loads(capsys.readouterr().out)
    assert described["running"] and not described["ready"]


@pytest.mark.parametrize(
    ("tail", "expected"), [("0", []), ("1", ["three"]), ("2", ["two", "three"]), ("9", None)]
)
def test_tail(
    home: Path, tail: str, expected: list[str] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    a_cluster(home / "clusters" / "one", "one\ntwo\nthree\n")
    assert main(["logs", "--name", "one", "--tail", tail]) == 0
    wanted = ["one", "two", "three"] if expected is None else expected
    assert capsys.readouterr().out.splitlines() == wanted


def test_following_goes_on_where_reading_ended(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("old\n")
    with path.open() as file, path.open("a", buffering=1) as writer:
        assert file.read() == "old\n"
        writer.write("between\n")
        lines = follow(path, file)
        assert next(lines) == "between"
        threading.Timer(0.01, writer.write, ("later\n",)).start()
        assert next(lines) == "later"


def test_a_place_that_cannot_be_written_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "--data-dir", "/proc/nowhere/x", "--runtime", "fake", "--port", "0"]) == 1
    assert "pilothouse up: /proc/nowhere" in capsys.readouterr().err


def test_a_component_without_its_kubeconfig(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scheduler", "--kubeconfig", str(tmp_path / "none")]) == 1
    assert "there is no such file" in capsys.readouterr().err


def test_what_is_no_archive_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.tar").write_text("no tar")
    assert main(["image", "import", str(tmp_path / "x.tar")]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_without_nodes_no_pods_are_suggested() -> None:
    components = ("apiserver", "scheduler", "controller-manager", "kubelet")
    assert next_commands("fake", components, 0)[0] == "api-resources"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"kind":"Status","message":"try again"}', "try again"),
        (b"upstream is down", "b'upstream is down'"),
        (b"[1]", "b'[1]'"),
    ],
)
def test_what_the_server_said_is_told_in_words(body: bytes, text: str) -> None:
    assert reason(body) == text
