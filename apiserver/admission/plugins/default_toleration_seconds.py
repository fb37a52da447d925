"""DefaultTolerationSeconds: pods outlive a lost node for five minutes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apiserver.admission.plugin import Plugin

if TYPE_CHECKING:
    from pilothouse.apiserver.admission.interfaces import Attributes

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
_DEFAULT_SECONDS = 300


class DefaultTolerationSeconds(Plugin):
    def set_up(self) -> None:
        config = self.context.config
        flags = {
            NOT_READY: "default_not_ready_toleration_seconds",
            UNREACHABLE: "default_unreachable_toleration_seconds",
        }
        self._seconds: dict[str, int] = {}
        for taint, flag in flags.items():
            value = getattr(config, flag, None)
            self._seconds[taint] = _DEFAULT_SECONDS if value is None else int(value)

    async def admit(self, attributes: Attributes) -> None:
        if attributes.obj is None:
            return
        spec = attributes.obj["spec"]
        present = spec.get("tolerations") or ()
        missing = [
            taint
            for taint in self._seconds
            if not any(
                toleration.get("key") in (None, "", taint)
                and toleration.get("effect") in (None, "", "NoExecute")
                for toleration in present
            )
        ]
        if missing:
            added = [
                {
                    "key": taint,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": self._seconds[taint],
                }
                for taint in missing
            ]
            spec["tolerations"] = [*present, *added]


PLUGINS = {"DefaultTolerationSeconds": DefaultTolerationSeconds}
