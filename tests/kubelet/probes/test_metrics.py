"""/metrics/probes: how often probes succeeded and failed, and how long they took."""

from __future__ import annotations

from pilothouse.kubelet.probes.metrics import ProbeMetrics

LABELS = ("Liveness", "c", "p", "ns", "u")


def test_probes_are_counted_while_their_container_is_there() -> None:
    metrics = ProbeMetrics()
    metrics.probed(LABELS, 0.02, success=True)
    metrics.probed(LABELS, 3.0, success=False)
    text = metrics.registry().text()
    where = 'container="c",pod="p",namespace="ns",pod_uid="u"'
    for result in ("successful", "failed"):
        assert f'prober_probe_total{{probe_type="Liveness",result="{result}",{where}}} 1\n' in text
    counted = 'prober_probe_duration_seconds_count{probe_type="Liveness",container="c"'
    assert f'{counted},pod="p",namespace="ns"}} 1\n' in text, "only of those that succeeded"
    metrics.forget(LABELS)
    assert metrics.registry().text() == ""
