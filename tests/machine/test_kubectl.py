"""logs, exec, attach, cp, port-forward, run and debug of both kubectls on real containers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "e2e"))

import transcripts

pytestmark = [pytest.mark.machine, pytest.mark.kubectl]
NOTHING = {"links": [], "mounts": [], "processes": [], "namespaces": [], "rules": []}
KUBECTLS = transcripts.kubectls()
LOGS = {
    "all": "line 1\nline 2\nline 3\nproblem\n",
    "default container": 'web starts\nDefaulted container "web" out of: web, shell, cat\n',
    "tail": "line 3\nproblem\n",
    "timestamps": "TIME web starts\n",
    "selector": "web starts\n",
    "since": "web starts\n",
    "since now": 'The PodLogOptions "main" is invalid: sinceSeconds: Invalid value: 0: '
    "must be greater than 0\nexit 1",
    "limit": "web",
    "previous": "run\n",
    "no previous": "Error from server (BadRequest): previous terminated container "
    '"web" in pod "main" not found\nexit 1',
    "no pod": 'error: error from server (NotFound): pods "nosuch" not found in namespace '
    '"default"\nexit 1',
    "deployment": "deployed\n",
    "follow": "line 3\n",
}
EXECS = {
    "streams": "out\ncommand terminated with exit code 4\nexit 4",
    "stderr": "err\n",
    "stdin": "in\n",
    "service": "there\n",
    "deployment": "there\n",
}


@pytest.mark.timeout(150)
@pytest.mark.skipif(not KUBECTLS, reason="no kubectl here")
def test_running_containers(
    box: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECTLS", ",".join(f"{v}={path}" for v, path in KUBECTLS.items()))
    result = box("kubectl.py", timeout=120)
    assert set(result["results"]) == set(KUBECTLS)
    for version, answers in result["results"].items():
        check(version, answers)
    assert result["leftovers"] == NOTHING


def check(version: str, answers: dict[str, Any]) -> None:
    logs, execs = answers["logs"], answers["exec"]
    prefixes = logs.pop("prefixes")
    assert "[pod/main/web] web starts\n" in prefixes and "[pod/main/shell] problem\n" in prefixes
    for refused in (logs.pop("no container"), execs.pop("no container")):
        assert "container nosuch is not valid for pod main" in refused and refused.endswith(
            "exit 1"
        )
    assert logs == LOGS
    terminal = execs.pop("terminal")
    assert "\n/dev/pts/0\n42\ncommand terminated with exit code 6\n" in terminal
    no_command = execs.pop("no command")
    assert no_command.startswith("error: Internal error occurred: error executing command")
    assert "`nosuch` not found in $PATH" in no_command and no_command.endswith("exit 1")
    assert execs == EXECS
    assert answers["attach"] == "got hello\n"
    assert answers["cp"] == {"there": f"5000 /tmp/folder-{version}-file\n", "back": "True"}
    assert answers["port-forward"] == ["page"] * 3
    assert answers["run"].pop("terminal").endswith("exit\n42\n")
    assert answers["run"] == {"stdin": "in\n", "exit code": "exit 5", "gone": ""}
    assert answers["debug"] == {
        "sees the target": "True",
        "copy": "pod/copy condition met\nweb shell cat extra",
        "node": "/host/proc\n",
    }
