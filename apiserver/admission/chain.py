"""Runs the admission plugins of one API server in order.

Which plugins a kind of request concerns is worked out once and remembered, so that a request
that concerns none costs one dict lookup. :func:`build_admission` reads the plugin flags.
"""

from __future__ import annotations

from importlib import import_module
from time import perf_counter
from typing import TYPE_CHECKING, Any

from pilothouse.apiserver.admission.order import (
    CLAIM_STATUS_ACCESS,
    ORDER,
    POLICY_PARAM_ACCESS,
    RBAC_ESCALATION,
    Row,
)
from pilothouse.apiserver.admission.plugin import (
    CONFIGURATION,
    LIMIT_RANGES,
    NAMESPACES,
    NODES,
    PODS,
    PRIORITY_CLASSES,
    RESOURCE_QUOTAS,
    SERVICE_ACCOUNTS,
    AdmissionContext,
    AdmissionHooks,
    ObjectIndex,
    Plugin,
)
from pilothouse.componentbase.histograms import FOLD

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from pilothouse.apimachinery.schema import GroupVersionResource
    from pilothouse.apiserver.admission.interfaces import AdmissionPlugin, Attributes, Operation
    from pilothouse.apiserver.authorization.interfaces import Authorizer
    from pilothouse.apiserver.registry.context import RegistryContext
    from pilothouse.componentbase.metrics import Histogram

    Step = Callable[[Attributes], Awaitable[None]]
    Key = tuple[Operation, GroupVersionResource, str]

_INVALID_MANAGED_FIELDS = (
    ".metadata.managedFields was in an invalid state after admission; this could be caused by an "
    "outdated mutating admission controller; please fix your requests: {}"
)


_FOREIGN = frozenset(
    (
        "MutatingAdmissionPolicy",
        "MutatingAdmissionWebhook",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionWebhook",
    )
)


class AdmissionChain:
    """``admit`` may change the object, ``validate`` only judges it."""

    def __init__(self, rows: Iterable[Row], context: AdmissionContext) -> None:
        self._rows = tuple(row for row in rows if row.module)
        self._context = context
        self._plugins: dict[str, AdmissionPlugin] = {}
        self._extra: list[AdmissionPlugin] = []
        self._steps: dict[Key, tuple[tuple[Step, ...], tuple[Step, ...]]] = {}
        self._foreign: dict[Key, bool] = {}
        self.seconds: Histogram | None = None
        """By plugin, type, operation and whether it refused; None: nobody measures."""

    @property
    def hooks(self) -> AdmissionHooks:
        return self._context.hooks

    def add(self, plugin: AdmissionPlugin) -> None:
        """Adds a plugin that is not in the table (webhooks, policies), before ResourceQuota."""
        self._extra.append(plugin)
        self._steps.clear()

    def forget_interests(self) -> None:
        """Plugins are asked anew what concerns them (their configuration has changed)."""
        self._steps.clear()

    async def admit(self, attributes: Attributes) -> None:
        """:raises StatusError: refused."""
        key = (attributes.operation, attributes.resource, attributes.subresource)
        steps = self._steps.get(key) or self._resolve(key)
        obj = attributes.obj
        managed_fields = None
        if steps[0] and obj is not None:
            managed_fields = (obj.get("metadata") or {}).get("managedFields")
        for step in steps[0]:
            await step(attributes)
        reinvocation = attributes.reinvocation
        if reinvocation is None:
            return
        if reinvocation.again:
            reinvocation.running = True
            for step in steps[0]:
                await step(attributes)
        _keep_managed_fields(attributes, managed_fields)

    async def validate(self, attributes: Attributes) -> None:
        """:raises StatusError: refused."""
        key = (attributes.operation, attributes.resource, attributes.subresource)
        steps = self._steps.get(key) or self._resolve(key)
        for step in steps[1]:
            await step(attributes)

    def _resolve(self, key: Key) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
        operation, resource, subresource = key
        plugins: list[AdmissionPlugin] = []
        for row in self._rows:
            if row.name == "ResourceQuota":
                plugins += self._extra
            if row.matches(operation, resource.group_resource, subresource):
                plugins.append(self._plugin(row))
        if all(row.name != "ResourceQuota" for row in self._rows):
            plugins += self._extra
        concerned = [
            plugin
            for plugin in plugins
            if plugin.interested(operation, resource.group_resource, subresource)
        ]
        names = {id(plugin): name for name, plugin in self._plugins.items()}

        def measured(step: Step, plugin: AdmissionPlugin, kind: str) -> Step:
            name = names.get(id(plugin)) or type(plugin).__name__
            return self._measured(step, (name, kind, operation))

        admits = tuple(measured(p.admit, p, "admit") for p in concerned if _overrides(p, "admit"))
        validates = tuple(
            measured(p.validate, p, "validate") for p in concerned if _overrides(p, "validate")
        )
        self._foreign[key] = any(names.get(id(plugin)) in _FOREIGN for plugin in concerned)
        steps = self._steps[key] = (admits, validates)
        return steps

    def shows(self, attributes: Attributes) -> bool:
        """Whether webhooks or policies, which may look at all of an object, are asked."""
        key = (attributes.operation, attributes.resource, attributes.subresource)
        if key not in self._steps:
            self._resolve(key)
        return self._foreign[key]

    def _measured(self, step: Step, labels: tuple[str, str, str]) -> Step:
        """``step`` with its durations in ``seconds``."""
        seconds = self.seconds
        if seconds is None:
            return step
        passed = seconds.of(*labels, "false")
        pending = passed.pending

        async def timed(attributes: Attributes) -> None:
            start = perf_counter()
            try:
                await step(attributes)
            except BaseException:
                seconds.observe(perf_counter() - start, *labels, "true")
                raise
            pending.append(perf_counter() - start)
            if len(pending) >= FOLD:
                passed.fold()

        timed.__wrapped__ = step  # type: ignore[attr-defined]
        return timed

    def _plugin(self, row: Row) -> AdmissionPlugin:
        plugin = self._plugins.get(row.name)
        if plugin is None:
            factory = import_module(row.path).PLUGINS[row.name]
            plugin = self._plugins[row.name] = factory(row, self._context)
        return plugin


def _keep_managed_fields(attributes: Attributes, before: Any) -> None:
    """Patches that break managedFields lose that part (NewManagedFieldsValidating…)."""
    metadata = None if attributes.obj is None else attributes.obj.get("metadata")
    if not metadata or metadata.get("managedFields") == before:
        return
    from pilothouse.apimachinery.managedfields.entries import decode_entries

    try:
        decode_entries(metadata.get("managedFields") or [], trusted=False)
        return
    except ValueError as error:
        problem = str(error)
    if before:
        metadata["managedFields"] = before
    else:
        metadata.pop("managedFields", None)
    attributes.warnings.append(_INVALID_MANAGED_FIELDS.format(problem))


def _overrides(plugin: AdmissionPlugin, method: str) -> bool:
    return getattr(type(plugin), method) is not getattr(Plugin, method)


def _names(config: Any, flag: str) -> set[str]:
    value = getattr(config, flag, None) or ()
    parts = value.split(",") if isinstance(value, str) else value
    names = {part.strip() for part in parts if part.strip()}
    unknown = sorted(names - {row.name for row in ORDER})
    if unknown:
        title = flag.replace("_", "-")
        raise ValueError(f'{title} plugin "{unknown[0]}" is unknown')
    return names


def enabled_rows(config: Any) -> list[Row]:
    """The default plugins, with ``--enable-`` and ``--disable-admission-plugins`` applied.

    :raises ValueError: a name that is unknown, given twice over, or that this server lacks.
    """
    enabled = _names(config, "enable_admission_plugins")
    disabled = _names(config, "disable_admission_plugins")
    both = sorted(enabled & disabled)
    if both:
        raise ValueError(
            f"{both} in enable-admission-plugins and disable-admission-plugins overlapped"
        )
    rows = [
        row for row in ORDER if (row.default_on or row.name in enabled) and row.name not in disabled
    ]
    for row in rows:
        if row.name in enabled and not row.module and not row.default_on:
            raise ValueError(f'admission plugin "{row.name}" is not available in this server')
    return rows


def build_admission(
    config: Any,
    context: RegistryContext,
    *,
    authorizer: Authorizer | None = None,
) -> AdmissionChain:
    """The chain of one API server; ``chain.hooks.client`` is to be set when there is one."""
    listers = context.listers
    # Plugins read these synchronously at any time: their caches must not start on first use.
    for resource in (NAMESPACES, SERVICE_ACCOUNTS, PODS, NODES):
        listers.list(resource)
    admission = AdmissionContext(
        listers=listers,
        clock=context.clock,
        random=context.random,
        config=config,
        limit_ranges=ObjectIndex(listers, LIMIT_RANGES),
        quotas=ObjectIndex(listers, RESOURCE_QUOTAS),
        priority_classes=ObjectIndex(listers, PRIORITY_CLASSES),
        hooks=AdmissionHooks(authorizer=authorizer),
    )
    always = (RBAC_ESCALATION, POLICY_PARAM_ACCESS, CLAIM_STATUS_ACCESS)
    chain = AdmissionChain([*enabled_rows(config), *always], admission)
    for resource in CONFIGURATION:
        admission.configuration[resource] = ObjectIndex(listers, resource)
        listers.subscribe(resource, lambda *_: chain.forget_interests())
    return chain
