"""Stock kubectl, new and old, says of our cluster what it says of upstream's."""

from __future__ import annotations

import difflib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import transcripts

from pilothouse import Cluster

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(300)]
KUBECTLS = transcripts.kubectls()


def differences(name: str, version: str, folder: Path) -> str:
    """Between the recorded transcript and one of a fresh cluster (fake runtime, one node)."""
    folder.mkdir()
    # Upstream's was one without add-ons.
    with Cluster(resource_metrics=False) as cluster:
        answers = transcripts.transcript(name, KUBECTLS[version], cluster.kubeconfig, folder)
    lines = difflib.unified_diff(
        transcripts.recorded(name, version).splitlines(),
        transcripts.text_of(answers).splitlines(),
        f"upstream, kubectl {version}", "pilothouse", lineterm="", n=5,
    )  # fmt: skip
    return "\n".join(lines)


@pytest.mark.skipif(not KUBECTLS, reason="no kubectl here")
@pytest.mark.parametrize("name", transcripts.NAMES)
def test_transcript(name: str, tmp_path: Path) -> None:
    """Two versions at once: most of the time goes by in kubectl's own start."""
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda version: differences(name, version, tmp_path / version), KUBECTLS)
    shown = "\n".join(found).strip()
    assert not shown, shown


def test_normal_hides_what_differs_from_run_to_run_only() -> None:
    text = (
        "web-5b5cd55555-x2k9d 1/1 Running 0 12s 10.244.0.7\n"
        "  - lastProbeTime: null\n    lastTransitionTime: 2026-11-24T09:00:00Z\n"
        "2m30s after 0/1 nodes: nodePort: 30123 at https://127.0.0.1:6443"
    )
    assert transcripts.normal(text) == (
        "web-HASH-RND 1/1 Running 0 AGE IP\n"
        " - lastTransitionTime: TIME\n"
        "AGE after 0/1 nodes: nodePort: NODEPORT at SERVER"
    )


def test_what_is_kept_of_other_versions_gives_their_transcripts() -> None:
    base = transcripts.recorded("cluster", transcripts.BASE)
    lines = base.splitlines(keepends=True)
    changed = "".join(["new\n", *lines[1:9], *lines[12:], "last\n"])
    kept = transcripts.difference("cluster", changed)
    assert len(kept) < 400 < len(base)
    assert transcripts.patched(base, kept) == changed
    assert transcripts.patched(base, "cluster\n") == base
    assert transcripts.recorded("describe", "1.36") != transcripts.recorded("describe", "1.32")
