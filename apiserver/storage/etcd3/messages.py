"""The part of etcd's v3 wire format that we speak, as protobuf classes made at import.

Names and numbers are etcd's wire format; the descriptor is built here from a table, in a pool
of its own, so there is no generated code to match with the installed protobuf and no clash with
another package that registers etcd's files.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "etcdserverpb"
_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "enum": _Field.TYPE_INT32,  # An enum travels as an int32.
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
    "uint64": _Field.TYPE_UINT64,
}

# "name type number", "*" after the type: repeated; "name type number union": in that oneof.
_MESSAGES: dict[str, tuple[str, ...]] = {
    "KeyValue": (
        "key bytes 1",
        "create_revision int64 2",
        "mod_revision int64 3",
        "version int64 4",
        "value bytes 5",
        "lease int64 6",
    ),
    "Event": ("type enum 1", "kv KeyValue 2", "prev_kv KeyValue 3"),
    "ResponseHeader": (
        "cluster_id uint64 1",
        "member_id uint64 2",
        "revision int64 3",
        "raft_term uint64 4",
    ),
    "RangeRequest": (
        "key bytes 1",
        "range_end bytes 2",
        "limit int64 3",
        "revision int64 4",
        "serializable bool 7",
        "keys_only bool 8",
        "count_only bool 9",
    ),
    "RangeResponse": ("header ResponseHeader 1", "kvs KeyValue* 2", "more bool 3", "count int64 4"),
    "PutRequest": ("key bytes 1", "value bytes 2", "lease int64 3"),
    "PutResponse": ("header ResponseHeader 1",),
    "DeleteRangeRequest": ("key bytes 1", "range_end bytes 2"),
    "DeleteRangeResponse": ("header ResponseHeader 1", "deleted int64 2"),
    "RequestOp": (
        "request_range RangeRequest 1 request",
        "request_put PutRequest 2 request",
        "request_delete_range DeleteRangeRequest 3 request",
    ),
    "ResponseOp": (
        "response_range RangeResponse 1 response",
        "response_put PutResponse 2 response",
        "response_delete_range DeleteRangeResponse 3 response",
    ),
    "Compare": (
        "result enum 1",
        "target enum 2",
        "key bytes 3",
        "version int64 4 target_union",
        "create_revision int64 5 target_union",
        "mod_revision int64 6 target_union",
        "value bytes 7 target_union",
    ),
    "TxnRequest": ("compare Compare* 1", "success RequestOp* 2", "failure RequestOp* 3"),
    "TxnResponse": ("header ResponseHeader 1", "succeeded bool 2", "responses ResponseOp* 3"),
    "CompactionRequest": ("revision int64 1", "physical bool 2"),
    "CompactionResponse": ("header ResponseHeader 1",),
    "WatchRequest": (
        "create_request WatchCreateRequest 1 request_union",
        "cancel_request WatchCancelRequest 2 request_union",
    ),
    "WatchCreateRequest": (
        "key bytes 1",
        "range_end bytes 2",
        "start_revision int64 3",
        "progress_notify bool 4",
        "prev_kv bool 6",
        "watch_id int64 7",
    ),
    "WatchCancelRequest": ("watch_id int64 1",),
    "WatchResponse": (
        "header ResponseHeader 1",
        "watch_id int64 2",
        "created bool 3",
        "canceled bool 4",
        "compact_revision int64 5",
        "cancel_reason string 6",
        "events Event* 11",
    ),
    "LeaseGrantRequest": ("TTL int64 1", "ID int64 2"),
    "LeaseGrantResponse": (
        "header ResponseHeader 1",
        "ID int64 2",
        "TTL int64 3",
        "error string 4",
    ),
    "AuthenticateRequest": ("name string 1", "password string 2"),
    "AuthenticateResponse": ("header ResponseHeader 1", "token string 2"),
    "StatusRequest": (),
    "StatusResponse": (
        "header ResponseHeader 1",
        "version string 2",
        "dbSize int64 3",
        "leader uint64 4",
        "errors string* 8",
    ),
}

COMPARE_EQUAL = 0
TARGET_VERSION, TARGET_MOD = 0, 2
EVENT_DELETE = 1


def _field(message: Any, spec: str) -> None:
    name, kind, number, *union = spec.split()
    field = message.field.add(name=name, number=int(number), label=_Field.LABEL_OPTIONAL)
    if kind.endswith("*"):
        kind = kind[:-1]
        field.label = _Field.LABEL_REPEATED
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{kind}"
    if union:
        if not message.oneof_decl:
            message.oneof_decl.add(name=union[0])
        field.oneof_index = 0


def _build() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="pilothouse/etcd.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for spec in fields:
            _field(message, spec)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


_CLASSES = _build()

RangeRequest: Any = _CLASSES["RangeRequest"]
PutRequest: Any = _CLASSES["PutRequest"]
DeleteRangeRequest: Any = _CLASSES["DeleteRangeRequest"]
RequestOp: Any = _CLASSES["RequestOp"]
Compare: Any = _CLASSES["Compare"]
TxnRequest: Any = _CLASSES["TxnRequest"]
CompactionRequest: Any = _CLASSES["CompactionRequest"]
WatchRequest: Any = _CLASSES["WatchRequest"]
WatchCreateRequest: Any = _CLASSES["WatchCreateRequest"]
LeaseGrantRequest: Any = _CLASSES["LeaseGrantRequest"]
AuthenticateRequest: Any = _CLASSES["AuthenticateRequest"]
StatusRequest: Any = _CLASSES["StatusRequest"]

METHODS: dict[str, tuple[str, Any, Any]] = {
    name: (f"/{_PACKAGE}.{service}/{method}", _CLASSES[request], _CLASSES[response])
    for name, service, method, request, response in (
        ("range", "KV", "Range", "RangeRequest", "RangeResponse"),
        ("txn", "KV", "Txn", "TxnRequest", "TxnResponse"),
        ("compact", "KV", "Compact", "CompactionRequest", "CompactionResponse"),
        ("watch", "Watch", "Watch", "WatchRequest", "WatchResponse"),
        ("lease_grant", "Lease", "LeaseGrant", "LeaseGrantRequest", "LeaseGrantResponse"),
        ("authenticate", "Auth", "Authenticate", "AuthenticateRequest", "AuthenticateResponse"),
        ("status", "Maintenance", "Status", "StatusRequest", "StatusResponse"),
    )
}
"""Method -> (path, request class, response class)."""
