"""Rows made once and rendered for many times of asking say what rows made anew would say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.endpoints.table import TableWriter
from pilothouse.apiserver.registry.printing_table import columns_of, row_of
from pilothouse.apiserver.storage.cacher.watch_cache import Entry

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
AGO = "2026-11-24T11:59:30Z"
LATER = "2026-11-24T11:59:50Z"
FUTURE = "2026-11-24T12:00:01Z"
META = {"name": "a", "namespace": "b", "creationTimestamp": AGO}


def container(**fields: Any) -> dict[str, Any]:
    return {"name": "c", "restartCount": 2, "state": {"running": {}}, "ready": True, **fields}


OBJECTS: list[tuple[str, str, dict[str, Any]]] = [
    ("", "pods", {"spec": {"containers": [{"name": "c"}]}, "status": {"phase": "Running"}}),
    (
        "",
        "pods",
        {
            "spec": {"containers": [{"name": "c"}]},
            "status": {
                "containerStatuses": [
                    container(lastState={"terminated": {"finishedAt": LATER}}),
                ]
            },
        },
    ),
    ("", "nodes", {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
    ("", "configmaps", {"data": {"k": "v"}, "metadata": {"name": "no-time"}}),
    ("", "configmaps", {"metadata": {"name": "future", "creationTimestamp": FUTURE}}),
    ("", "events", {"firstTimestamp": AGO, "lastTimestamp": LATER, "message": 'a "b",\u0000'}),
    ("", "events", {"eventTime": AGO, "series": {"count": 2, "lastObservedTime": LATER}}),
    ("", "events", {"firstTimestamp": AGO}),
    ("batch", "jobs", {"status": {"startTime": LATER}}),
    ("batch", "jobs", {"status": {"startTime": AGO, "completionTime": LATER}}),
    ("batch", "cronjobs", {"status": {"lastScheduleTime": LATER}}),
    ("apps", "deployments", {"spec": {"replicas": 3}}),
    ("resource.k8s.io", "devicetaintrules", {"spec": {"taint": {"timeAdded": LATER}}}),
]  # fmt: skip


def writer(group: str, resource: str, now: datetime, include: str = "Metadata") -> TableWriter:
    kind = GroupResource(group, resource)
    strategy = SimpleNamespace(columns=columns_of(kind), row=row_of(kind))
    served: Any = SimpleNamespace(converter=None, api_version="v1", strategy=strategy)
    negotiated: Any = SimpleNamespace(meta_version="meta.k8s.io/v1")
    return TableWriter(served, negotiated, include, now)


@pytest.mark.parametrize("include", ["Metadata", "Object", "None"])
@pytest.mark.parametrize(("group", "resource", "fields"), OBJECTS)
def test_a_row_ages(group: str, resource: str, fields: dict[str, Any], include: str) -> None:
    obj = {"metadata": META, **fields}
    entry = Entry("k", "b", "a", 7, orjson.dumps(obj))
    first = writer(group, resource, NOW, include)
    for seconds in (0, 1, 40, 700, 5_000, 90_000, 40_000_000):
        now = NOW + timedelta(seconds=seconds)
        again = writer(group, resource, now, include)
        again.served = first.served  # the same strategy: what was made is used
        row = orjson.loads(again.row(entry))
        assert row["cells"] == row_of(GroupResource(group, resource))(obj, now)
        if include == "Object":
            assert row["object"] == obj
        elif include == "Metadata":
            assert row["object"]["kind"] == "PartialObjectMetadata"
            assert row["object"]["metadata"]["name"] == obj["metadata"]["name"]
        else:
            assert row["object"] is None


def test_rows_are_made_once() -> None:
    entry = Entry("k", "b", "a", 7, orjson.dumps({"metadata": META}))
    table = writer("", "pods", NOW)
    made = []
    row = table.served.strategy.row
    table.served.strategy.row = lambda *of: made.append(1) or row(*of)  # type: ignore
    assert table.row(entry) == table.row(entry)
    assert len(made) == 1


def test_other_columns_are_other_rows() -> None:
    """A CRD's printer columns change while its objects stay as they are."""
    entry = Entry("k", "b", "a", 7, orjson.dumps({"metadata": META}))
    before, after = writer("", "pods", NOW), writer("", "configmaps", NOW)
    assert len(orjson.loads(before.row(entry))["cells"]) == 9
    assert orjson.loads(after.row(entry))["cells"] == ["a", 0, "30s"]
    entry.superseded()
    assert "row v1" not in entry.memo
