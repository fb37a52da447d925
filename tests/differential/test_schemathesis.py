"""schemathesis against a running server: objects made from our own OpenAPI v3 documents are
created, read, patched and deleted; nothing is answered by a 5xx, and the server does not grow.

The requests are the same in each run; ``FUZZ_SEED`` and ``FUZZ_SECONDS`` ask for others and more.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hack.differential import servers

pytest.importorskip("schemathesis")

SECONDS = int(os.environ.get("FUZZ_SECONDS", "15"))
SEED = os.environ.get("FUZZ_SEED", "1")
DOCUMENTS = ("api/v1", "apis/apps/v1", "apis/batch/v1")
LEFT_OUT = "/(exec|attach|portforward|log|proxy)|/watch/"
"""They wait for somebody, or for kubelets that are not there."""
HOOKS = """
import schemathesis

@schemathesis.hook
def before_call(context, case, kwargs):
    query = case.query
    if query and query.get("watch") not in (None, False, "false"):
        query["timeoutSeconds"] = 1
"""
"""A watch without a timeout is open until the client gives up, which counts as its failure."""


def resident() -> int:
    """Kilobytes of memory that this process, and the server in it, has."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    raise AssertionError


@pytest.mark.timeout(165 + SECONDS)
@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_answer_is_a_server_error(document: str, tmp_path: Path) -> None:
    (tmp_path / "fuzz_hooks.py").write_text(HOOKS)
    code = "import sys; from schemathesis.cli import schemathesis; sys.exit(schemathesis())"
    with servers.ours() as connection:
        host = f"http://127.0.0.1:{connection.port}"
        before = resident()
        options = [
            *("run", f"{host}/openapi/v3/{document}", "--url", host),
            *("-H", "Authorization: Bearer differential", "--checks", "not_a_server_error"),
            *("--phases", "fuzzing,stateful", "--max-examples", "5", "--max-time", str(SECONDS)),
            *("--exclude-path-regex", LEFT_OUT, "--request-timeout", "10"),
            *("--generation-database", "none", "--continue-on-failure", "--seed", SEED),
            # A busy machine makes big bodies slowly: that says nothing about the server.
            *("--suppress-health-check", "all"),
        ]
        done = subprocess.run(
            [sys.executable, "-c", code, *options],
            cwd=tmp_path,
            env={**os.environ, "SCHEMATHESIS_HOOKS": "fuzz_hooks", "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        grown = resident() - before
        assert connection.call("GET", "/readyz")[0] == 200
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    print(f"{document}: {grown} kB more")
    assert grown < 64_000
