"""Between the versions of a custom kind: the one place that knows ``spec.conversion``.

Versions are converted where objects are read from the store and where they are written to it
(``store.py``), so both directions are functions from one object to another. The strategy None
changes apiVersion only. Webhook conversion plugs in as another :class:`Converter`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj


class Converter(Protocol):
    def convert(self, obj: Obj, api_version: str) -> Obj:
        """``obj`` as ``api_version`` has it; a new object, parts may be shared.

        :raises StatusError: it can't be converted.
        """


class NoneConverter:
    """Same fields in all versions."""

    def convert(self, obj: Obj, api_version: str) -> Obj:
        return obj if obj.get("apiVersion") == api_version else {**obj, "apiVersion": api_version}


def converter_for(crd: Obj) -> Converter:
    """The converter of a CRD. A Webhook strategy is refused when objects really differ in
    version: see :class:`UnavailableConverter`."""
    conversion = crd["spec"].get("conversion") or {}
    if conversion.get("strategy") == "Webhook":
        return UnavailableConverter(crd["metadata"]["name"])
    return NoneConverter()


class UnavailableConverter:
    """Webhook conversion is not available: one version works, others fail loudly."""

    def __init__(self, name: str) -> None:
        self._name = name

    def convert(self, obj: Obj, api_version: str) -> Obj:
        from pilothouse.apimachinery.errors import new_internal_error

        if obj.get("apiVersion") == api_version:
            return obj
        kind = f"{obj.get('apiVersion')}, Kind={obj.get('kind')}"
        raise new_internal_error(
            f"conversion webhook for {kind} failed: webhook conversion of {self._name} to "
            f"{api_version} is not available"
        )
