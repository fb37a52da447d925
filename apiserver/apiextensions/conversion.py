"""Between the versions of a custom kind: the one place that knows ``spec.conversion``.

The strategy None changes apiVersion only: its converter is a plain function, and objects are
converted where they are read and written (``store.py``). A webhook has to be asked, many objects
at a time: its converter is awaited, between the store and the watch cache
(``converting_storage.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext


class Converter(Protocol):
    synchronous: bool
    """Whether ``convert`` returns the object itself, instead of something to be awaited."""

    def convert(self, obj: Obj, api_version: str) -> Obj | Awaitable[Obj]:
        """``obj`` as ``api_version`` has it; a new object, parts may be shared.

        :raises StatusError: it can't be converted.
        """

    async def convert_all(self, objs: Sequence[Obj], api_version: str) -> list[Obj]:
        """The same for many at once, none of which is in ``api_version`` already.

        :raises Unconvertible: some can't be converted.
        """


class NoneConverter:
    """Same fields in all versions."""

    synchronous = True

    def convert(self, obj: Obj, api_version: str) -> Obj:
        return obj if obj.get("apiVersion") == api_version else {**obj, "apiVersion": api_version}

    async def convert_all(self, objs: Sequence[Obj], api_version: str) -> list[Obj]:
        return [self.convert(obj, api_version) for obj in objs]


def converter_for(crd: Obj, context: RegistryContext) -> Converter:
    """The converter of a CRD."""
    conversion = crd["spec"].get("conversion") or {}
    if conversion.get("strategy") != "Webhook":
        return NoneConverter()
    from pilothouse.apiserver.apiextensions.webhook_conversion import WebhookConverter

    return WebhookConverter(crd, context)
