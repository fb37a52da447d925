"""Which representation a client wants (apiserver pkg/endpoints/handlers/negotiation).

Answers are JSON, YAML or protobuf. JSON is what the watch cache holds: it costs nothing to send,
while a pod takes 100 us to encode as protobuf. So a client gets protobuf only when it takes
neither JSON nor YAML, whatever it names first; kube's own clients always name JSON, too. Clients
of metadata get what they name first: its lists differ (items have no kind in protobuf).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from pilothouse.apimachinery.errors import StatusError, new_generic, new_not_acceptable

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
PROTOBUF_STREAM = f"{PROTOBUF};stream=watch"
SUPPORTED = (JSON, YAML, PROTOBUF)
SUPPORTED_STREAMS = ("application/json;stream=watch", PROTOBUF_STREAM)
_TRANSFORMS = frozenset(("Table", "PartialObjectMetadata", "PartialObjectMetadataList"))
_METADATA = _TRANSFORMS - {"Table"}
_META_VERSIONS = frozenset(("v1", "v1beta1"))


class Negotiated(NamedTuple):
    """``transform`` is "", Table, PartialObjectMetadata or PartialObjectMetadataList of
    meta.k8s.io/``version``."""

    media_type: str
    transform: str = ""
    version: str = ""
    pretty: bool = False

    @property
    def meta_version(self) -> str:
        return f"meta.k8s.io/{self.version}"


PLAIN_JSON = Negotiated(JSON)


class _Clause(NamedTuple):
    type: str
    subtype: str
    params: dict[str, str]
    quality: float


def _parse(accept: str) -> list[_Clause]:
    clauses = []
    for text in accept.split(","):
        media, *rest = text.split(";")
        kind, _, subtype = media.strip().partition("/")
        if not kind or (not subtype and kind != "*"):
            continue
        params = {}
        quality = 1.0
        for parameter in rest:
            key, _, value = parameter.partition("=")
            key, value = key.strip(), value.strip().strip('"')
            if key == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 1.0
            else:
                params[key] = value
        clauses.append(_Clause(kind, subtype or "*", params, quality))
    clauses.sort(key=lambda clause: -clause.quality)
    return clauses


def _accepts(clause: _Clause, media_type: str) -> bool:
    kind, _, subtype = media_type.partition("/")
    if clause.type == "*" and clause.subtype == "*":
        return True
    return clause.type == kind and clause.subtype in (subtype, "*")


def _choose(clause: _Clause, media_type: str, stream: bool) -> Negotiated | None:
    params = clause.params
    if params.get("stream", "") not in ("", "watch"):
        return None
    if params.get("sv") and params["sv"] != "v1":
        return None
    pretty = params.get("pretty") == "1"
    if not params.keys() & {"as", "g", "v"}:
        return Negotiated(media_type, pretty=pretty)
    kind, group, version = params.get("as", ""), params.get("g", ""), params.get("v", "")
    if group != "meta.k8s.io" or version not in _META_VERSIONS or kind not in _TRANSFORMS:
        return None
    return Negotiated(media_type, kind, version, pretty)


def method_not_allowed() -> StatusError:
    return StatusError(
        405,
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
        {},
    )


def check_route(accept: str, collection: bool) -> None:
    """What upstream's router wants of a request for a built-in resource before anything else: a
    media type by its name, or ``*/*``. :raises StatusError: 406."""
    check_offered(accept, (*SUPPORTED, *SUPPORTED_STREAMS) if collection else SUPPORTED)


@lru_cache(maxsize=512)
def check_offered(accept: str, offered: tuple[str, ...]) -> None:
    """:raises StatusError: 406 in the words of the router."""
    types = [part.partition(";")[0].strip() for part in accept.split(",")]
    if accept and not any(kind == "*/*" or kind in offered for kind in types):
        listed = ", ".join(offered)
        text = f"406: Not Acceptable\n\nAvailable representations: {listed}"
        raise new_generic(406, "NotAcceptable", text)


def _can(chosen: Negotiated) -> bool:
    return chosen.media_type != PROTOBUF or chosen.transform != "Table"


def _metadata_in_protobuf(clauses: list[_Clause], stream: bool) -> Negotiated | None:
    """The first clause, when it asks for metadata in protobuf by that name."""
    if not clauses or f"{clauses[0].type}/{clauses[0].subtype}" != PROTOBUF:
        return None
    chosen = _choose(clauses[0], PROTOBUF, stream)
    return chosen if chosen is not None and chosen.transform in _METADATA else None


@lru_cache(maxsize=512)
def refuse_protobuf(accept: str, stream: bool) -> None:
    """Custom resources have no protobuf, only their metadata has. :raises StatusError: 406, a
    client takes only that."""
    chosen = negotiate(accept, stream)
    if chosen.media_type == PROTOBUF and chosen.transform not in _METADATA:
        raise new_not_acceptable(SUPPORTED_STREAMS[:1] if stream else (JSON, YAML))


@lru_cache(maxsize=512)
def negotiate(accept: str, stream: bool = False) -> Negotiated:
    """The best representation for an Accept header; ``stream``: for a watch (no YAML).

    :raises StatusError: 406.
    """
    if not accept:
        return PLAIN_JSON
    clauses = _parse(accept)
    metadata = _metadata_in_protobuf(clauses, stream)
    if metadata is not None:
        return metadata
    for offered in ((JSON,) if stream else (JSON, YAML)), (PROTOBUF,):
        for clause in clauses:
            for media_type in offered:
                if _accepts(clause, media_type):
                    chosen = _choose(clause, media_type, stream)
                    if chosen is not None and _can(chosen):
                        return chosen
    raise new_not_acceptable(SUPPORTED_STREAMS if stream else SUPPORTED)


def wants_pretty(query: dict[str, list[str]], user_agent: str) -> bool:
    """Asked for by ``?pretty=``, or a human's tool (upstream's isPrettyPrint)."""
    values = query.get("pretty")
    if values and values[0]:
        return values[0] in ("1", "t", "T", "true", "TRUE", "True")
    return user_agent.startswith(("curl", "Wget", "Mozilla/5.0"))
