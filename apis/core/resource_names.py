"""Which resource names mean what (pkg/apis/core/helper): standard, native, extended, quota."""

from __future__ import annotations

from functools import lru_cache

from pilothouse.apimachinery.names import is_qualified_name
from pilothouse.apimachinery.quantity import Quantity

HUGE_PAGES = "hugepages-"
_REQUESTS = "requests."

STANDARD_CONTAINER = frozenset(("cpu", "memory", "ephemeral-storage"))
POD_LEVEL = frozenset(("cpu", "memory"))
INTEGER = frozenset(
    (
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
        "services.loadbalancers",
    )
)
_COMPUTE = frozenset(
    (
        "cpu",
        "memory",
        "ephemeral-storage",
        "requests.cpu",
        "requests.memory",
        "requests.ephemeral-storage",
        "limits.cpu",
        "limits.memory",
        "limits.ephemeral-storage",
        "requests.storage",
    )
)
STANDARD_QUOTA = _COMPUTE | INTEGER
STANDARD = STANDARD_QUOTA | {"storage"}


@lru_cache(maxsize=16384)
def parse_quantity(text: str | int | float) -> Quantity:
    """``Quantity.parse`` with a memory: a cluster's objects repeat few amounts."""
    return Quantity.parse(text)


def is_huge_page(name: str) -> bool:
    return name.startswith(HUGE_PAGES)


def is_quota_huge_page(name: str) -> bool:
    return name.startswith(HUGE_PAGES) or name.startswith(_REQUESTS + HUGE_PAGES)


def is_native(name: str) -> bool:
    return "/" not in name or "kubernetes.io/" in name


@lru_cache(maxsize=4096)
def is_extended(name: str) -> bool:
    if is_native(name) or name.startswith(_REQUESTS):
        return False
    return not is_qualified_name(_REQUESTS + name)


def is_overcommit_allowed(name: str) -> bool:
    return is_native(name) and not is_huge_page(name)


def is_integer(name: str) -> bool:
    return name in INTEGER or is_extended(name)


def is_standard(name: str) -> bool:
    return name in STANDARD or is_quota_huge_page(name)


def is_standard_quota(name: str) -> bool:
    return name in STANDARD_QUOTA or is_quota_huge_page(name)


def is_standard_container(name: str) -> bool:
    return name in STANDARD_CONTAINER or is_huge_page(name)


def is_node_allocatable(name: str) -> bool:
    return name == "cpu" or name == "memory" or is_huge_page(name)


def is_pod_level(name: str) -> bool:
    return name in POD_LEVEL or is_huge_page(name)


def huge_page_divides(name: str, quantity: Quantity) -> bool:
    """Whether ``quantity`` is a whole number of pages of ``hugepages-<size>``."""
    try:
        page = parse_quantity(name[len(HUGE_PAGES) :])
    except ValueError:
        return False
    size = page.value()
    if size <= 0 or page.milli_value() % 1000:
        return False
    return quantity.value() % size == 0
