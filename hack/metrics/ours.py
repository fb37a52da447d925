"""Our components' families: of the API server what it shows after the requests, of the others what
they have to show."""

from __future__ import annotations

from typing import Any

from hack.differential import servers
from hack.metrics import families, requests
from pilothouse.componentbase.metrics import Metric


def all_families() -> dict[str, dict[str, Any]]:
    return {
        "kube-apiserver": api_server(),
        "kube-controller-manager": controller_manager(),
        "kube-scheduler": scheduler(),
    }


def api_server() -> dict[str, Any]:
    with servers.ours() as connection:
        requests.send(connection.call)
        watching = connection.another()  # while it is open, it is counted
        watching._http.request("GET", "/api/v1/nodes?watch=1", headers=watching._headers)
        watching._http.getresponse()
        _, _, data = connection.call("GET", "/metrics", None, {"Accept": "text/plain"})
    return families.parse(data.decode())


def _described(metrics: list[Metric]) -> dict[str, Any]:
    return {
        metric.name: {
            "help": metric.help,
            "type": metric.kind,
            "labels": sorted(metric.names),
        }
        for metric in metrics
    }


def controller_manager() -> dict[str, Any]:
    from pilothouse.controllermanager.metrics import queue_metrics
    from pilothouse.controllermanager.stable_metrics import (
        JobMetrics,
        creation_skew,
        node_evictions,
    )

    own = [creation_skew(), node_evictions(), *JobMetrics().all()]
    return _described([*queue_metrics(lambda: ()).all(), *_client(), *own])


def scheduler() -> dict[str, Any]:
    from pilothouse.scheduler.metrics import SchedulerMetrics

    made = SchedulerMetrics(dict, dict, dict, {})
    return _described([*made.registry.all(), *_client()])


def _client() -> tuple[Metric, ...]:
    from pilothouse.kubeclient.client_metrics import ClientMetrics

    return ClientMetrics("https://127.0.0.1").all()
