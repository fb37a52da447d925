"""Accept headers as kubectl, client-go, browsers and curl send them."""

from __future__ import annotations

import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apiserver.endpoints.negotiation import (
    PROTOBUF,
    Negotiated,
    negotiate,
    refuse_protobuf,
    wants_pretty,
)

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
METADATA = (
    "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,"
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", Negotiated("application/json")),
        ("*/*", Negotiated("application/json")),
        ("application/*", Negotiated("application/json")),
        ("application/yaml", Negotiated("application/yaml")),
        ("application/yaml;q=0.5, application/json", Negotiated("application/json")),
        ("application/vnd.kubernetes.protobuf,application/json", Negotiated("application/json")),
        (PROTOBUF, Negotiated(PROTOBUF)),
        (f"{PROTOBUF};q=1, application/yaml;q=0.1", Negotiated("application/yaml")),
        (
            f"{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            Negotiated(PROTOBUF, "PartialObjectMetadataList", "v1"),
        ),
        (
            METADATA.partition(",")[2] + f",{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
            Negotiated("application/json", "PartialObjectMetadata", "v1"),
        ),
        (f"{PROTOBUF},{METADATA}", Negotiated("application/json", "PartialObjectMetadata", "v1")),
        (
            f"{PROTOBUF};as=Table;g=meta.k8s.io;v=v1,{TABLE}",
            Negotiated("application/json", "Table", "v1"),
        ),
        ("application/json;pretty=1", Negotiated("application/json", pretty=True)),
        (TABLE, Negotiated("application/json", "Table", "v1")),
        # Clients of metadata get what they name first.
        (METADATA, Negotiated(PROTOBUF, "PartialObjectMetadata", "v1")),
        # Nobody knows this form: the next clause counts.
        (
            "application/json;as=Table;v=v9;g=meta.k8s.io,application/yaml",
            Negotiated("application/yaml"),
        ),
    ],
)
def test_choices(accept: str, expected: Negotiated) -> None:
    assert negotiate(accept) == expected


@pytest.mark.parametrize(
    "accept", ["text/html", PROTOBUF + ";as=Table;v=v1;g=meta.k8s.io", "bogus"]
)
def test_not_acceptable(accept: str) -> None:
    with pytest.raises(StatusError) as raised:
        negotiate(accept)
    assert raised.value.code == 406
    assert raised.value.message == (
        "only the following media types are accepted: application/json, application/yaml, "
        "application/vnd.kubernetes.protobuf"
    )


def test_custom_resources_have_no_protobuf() -> None:
    metadata = f"{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
    for accept in ("", "application/json", f"{PROTOBUF}, */*", metadata):
        refuse_protobuf(accept, False)
    with pytest.raises(StatusError, match=r"application/json, application/yaml$"):
        refuse_protobuf(PROTOBUF, False)
    with pytest.raises(StatusError, match=r"application/json;stream=watch$"):
        refuse_protobuf(f"{PROTOBUF};stream=watch", True)


def test_watches_have_no_yaml() -> None:
    with pytest.raises(StatusError) as raised:
        negotiate("application/yaml", stream=True)
    assert "application/json;stream=watch" in raised.value.message
    assert negotiate("application/json;stream=watch", stream=True).media_type == "application/json"


def test_people_get_pretty_answers() -> None:
    assert wants_pretty({}, "curl/8.0")
    assert not wants_pretty({}, "kubectl/v1.37")
    assert wants_pretty({"pretty": ["true"]}, "kubectl/v1.37")
    assert not wants_pretty({"pretty": ["0"]}, "curl/8.0")
