"""Paths, verbs and selectors, against upstream's table (requestinfo_test.go)."""

from __future__ import annotations

import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apiserver.request.info import (
    parse_query,
    parse_request_info,
    parse_target,
    path_segment_errors,
)

CASES = [
    # method, url, verb, prefix, group, version, namespace, resource, subresource, name, parts
    ("GET", "/api/v1/namespaces", "list", "api", "", "v1", "", "namespaces", "", "", 1),
    (
        "GET",
        "/api/v1/namespaces/other",
        "get",
        "api",
        "",
        "v1",
        "other",
        "namespaces",
        "",
        "other",
        2,
    ),
    ("GET", "/api/v1/namespaces/other/pods", "list", "api", "", "v1", "other", "pods", "", "", 1),
    (
        "GET",
        "/api/v1/namespaces/other/pods/foo",
        "get",
        "api",
        "",
        "v1",
        "other",
        "pods",
        "",
        "foo",
        2,
    ),
    (
        "HEAD",
        "/api/v1/namespaces/other/pods/foo",
        "get",
        "api",
        "",
        "v1",
        "other",
        "pods",
        "",
        "foo",
        2,
    ),
    ("GET", "/api/v1/pods", "list", "api", "", "v1", "", "pods", "", "", 1),
    ("HEAD", "/api/v1/pods", "list", "api", "", "v1", "", "pods", "", "", 1),
    (
        "GET",
        "/api/v1/namespaces/other/pods/foo/proxy/a/b",
        "get",
        "api",
        "",
        "v1",
        "other",
        "pods",
        "proxy",
        "foo",
        5,
    ),
    ("GET", "/api/v1/watch/pods", "watch", "api", "", "v1", "", "pods", "", "", 1),
    (
        "GET",
        "/api/v1/watch/namespaces/other/pods",
        "watch",
        "api",
        "",
        "v1",
        "other",
        "pods",
        "",
        "",
        1,
    ),
    ("GET", "/api/v1/pods?watch=1", "watch", "api", "", "v1", "", "pods", "", "", 1),
    ("GET", "/api/v1/pods?watch=false", "list", "api", "", "v1", "", "pods", "", "", 1),
    ("GET", "/api/v1/pods?watch", "watch", "api", "", "v1", "", "pods", "", "", 1),
    (
        "GET",
        "/api/v1/proxy/namespaces/other/pods/foo",
        "proxy",
        "api",
        "",
        "v1",
        "other",
        "pods",
        "",
        "foo",
        2,
    ),
    (
        "GET",
        "/api/v1/proxy/namespaces/other/pods/foo/sub",
        "proxy",
        "api",
        "",
        "v1",
        "other",
        "pods",
        "",
        "foo",
        3,
    ),
    (
        "GET",
        "/api/v1/namespaces/other/pods/foo/status",
        "get",
        "api",
        "",
        "v1",
        "other",
        "pods",
        "status",
        "foo",
        3,
    ),
    (
        "PUT",
        "/api/v1/namespaces/other/finalize",
        "update",
        "api",
        "",
        "v1",
        "other",
        "namespaces",
        "finalize",
        "other",
        3,
    ),
    (
        "PUT",
        "/api/v1/namespaces/other/status",
        "update",
        "api",
        "",
        "v1",
        "other",
        "namespaces",
        "status",
        "other",
        3,
    ),
    (
        "PATCH",
        "/api/v1/namespaces/other/pods/foo",
        "patch",
        "api",
        "",
        "v1",
        "other",
        "pods",
        "",
        "foo",
        2,
    ),
    (
        "DELETE",
        "/api/v1/namespaces/other/pods/foo",
        "delete",
        "api",
        "",
        "v1",
        "other",
        "pods",
        "",
        "foo",
        2,
    ),
    (
        "DELETE",
        "/api/v1/namespaces/other/pods",
        "deletecollection",
        "api",
        "",
        "v1",
        "other",
        "pods",
        "",
        "",
        1,
    ),
    (
        "POST",
        "/api/v1/namespaces/other/pods",
        "create",
        "api",
        "",
        "v1",
        "other",
        "pods",
        "",
        "",
        1,
    ),
    (
        "POST",
        "/apis/apps/v1/namespaces/other/deployments",
        "create",
        "apis",
        "apps",
        "v1",
        "other",
        "deployments",
        "",
        "",
        1,
    ),
    (
        "GET",
        "/apis/apps/v1/namespaces/other/deployments/d/scale",
        "get",
        "apis",
        "apps",
        "v1",
        "other",
        "deployments",
        "scale",
        "d",
        3,
    ),
    (
        "GET",
        "/api/v1/pods?fieldSelector=metadata.name%3Dfoo",
        "list",
        "api",
        "",
        "v1",
        "",
        "pods",
        "",
        "foo",
        1,
    ),
    (
        "GET",
        "/api/v1/pods?watch=true&fieldSelector=metadata.name=foo",
        "watch",
        "api",
        "",
        "v1",
        "",
        "pods",
        "",
        "foo",
        1,
    ),
    (
        "GET",
        "/api/v1/pods?fieldSelector=metadata.name%3D..",
        "list",
        "api",
        "",
        "v1",
        "",
        "pods",
        "",
        "",
        1,
    ),
    ("OPTIONS", "/api/v1/namespaces/other/pods", "", "api", "", "v1", "other", "pods", "", "", 1),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[1]}")
def test_resource_paths(case: tuple[object, ...]) -> None:
    method, url, *expected, parts = case
    path, raw = parse_target(str(url).encode())
    info = parse_request_info(str(method), path, parse_query(raw))
    assert info.is_resource_request
    assert [
        info.verb,
        info.api_prefix,
        info.api_group,
        info.api_version,
        info.namespace,
        info.resource,
        info.subresource,
        info.name,
    ] == expected
    assert len(info.parts) == parts


@pytest.mark.parametrize(
    "path",
    ["/", "", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz", "/version"],
)
def test_other_paths_are_no_resource_requests(path: str) -> None:
    info = parse_request_info("GET", path)
    assert (info.is_resource_request, info.verb) == (False, "get")


def test_selectors_are_kept_for_the_verbs_that_have_them() -> None:
    query = {"labelSelector": ["a=b"], "fieldSelector": ["c=d"]}
    listed = parse_request_info("GET", "/api/v1/pods", query)
    assert (listed.label_selector, listed.field_selector) == ("a=b", "c=d")
    named = parse_request_info("GET", "/api/v1/namespaces/n/pods/p", query)
    assert (named.label_selector, named.field_selector) == ("", "")
    legacy = parse_request_info("GET", "/api/v1/watch/pods", query)
    assert (legacy.label_selector, legacy.field_selector) == ("", "")


def test_a_watch_path_that_names_nothing_is_refused() -> None:
    with pytest.raises(StatusError) as raised:
        parse_request_info("GET", "/api/v1/watch")
    assert raised.value.code == 400


@pytest.mark.parametrize(
    "target", [b"/api/v1/pods/%zz", b"/api/%", b"/api/%4", b"/a%00b", b"/a%-1"]
)
def test_malformed_targets_are_refused(target: bytes) -> None:
    with pytest.raises(StatusError) as raised:
        parse_target(target)
    assert raised.value.code == 400


def test_targets_are_decoded() -> None:
    assert parse_target(b"/a%2Fb%C3%BC?x=1&y") == ("/a/b\u00fc", "x=1&y")
    assert parse_target(b"http://host:1/api/v1?x") == ("/api/v1", "x")
    assert parse_target(b"/\xff")[0] == "/\ufffd"


def test_queries_are_decoded() -> None:
    assert parse_query("a=1&a=2&b=x%20y+z&c&&=e") == {
        "a": ["1", "2"],
        "b": ["x y z"],
        "c": [""],
        "": ["e"],
    }


def test_path_segments() -> None:
    assert path_segment_errors("a") == []
    assert path_segment_errors("..") == ["may not be '..'"]
    assert path_segment_errors("a/b%") == ["may not contain '/'", "may not contain '%'"]
