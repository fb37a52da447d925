"""Counters, gauges and histograms with Prometheus' text exposition and OpenMetrics'.

Scrapers that ask for protobuf get native histograms, too (``metrics_protobuf.py``).

One :class:`Registry` per component of a cluster, never a global one. Updating a metric is a
dict access and an addition; text is only made when somebody asks for ``/metrics``. What can be
read off somewhere when asked for (sizes, depths, /proc) is a :class:`Collected` metric, which
costs nothing in between.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from pilothouse.componentbase.histograms import Series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
OPENMETRICS_CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
Labels = tuple[str, ...]
T = TypeVar("T")
_INFINITY = float("inf")


class Metric:
    """``names`` are the label names; values are given by the same order."""

    kind = "untyped"

    def __init__(self, name: str, help: str, names: Sequence[str] = ()) -> None:
        self.name = name
        self.help = help
        self.names = tuple(names)

    def points(self) -> Iterable[tuple[Labels, float]]:
        """The values of a counter or gauge now."""
        return ()

    def samples(self, name: str) -> Iterator[str]:
        """Lines of the exposition under the sample name ``name``."""
        for labels, value in sorted(self.points()):
            yield f"{name}{self._labels(labels)} {_number(value)}"

    def text(self, *, openmetrics: bool = False) -> str:
        """HELP, TYPE and samples; OpenMetrics names a counter's family without ``_total``, and
        all of its samples with it."""
        family = sample = self.name
        kind = self.kind
        if openmetrics and kind == "counter":
            family = self.name.removesuffix("_total")
            sample = f"{family}_total"
        if openmetrics and kind == "untyped":
            kind = "unknown"
        lines = [f"# HELP {family} {_escape_help(self.help)}", f"# TYPE {family} {kind}"]
        lines += self.samples(sample)
        return "\n".join(lines) + "\n"

    def _labels(self, values: Labels, extra: str = "") -> str:
        parts = [f'{n}="{_escape(v)}"' for n, v in zip(self.names, values, strict=True)]
        if extra:
            parts.append(extra)
        return f"{{{','.join(parts)}}}" if parts else ""


class Counter(Metric):
    kind = "counter"

    def __init__(self, name: str, help: str, names: Sequence[str] = ()) -> None:
        super().__init__(name, help, names)
        self.values: dict[Labels, float] = {}

    def inc(self, *labels: str, by: float = 1.0) -> None:
        self.values[labels] = self.values.get(labels, 0.0) + by

    def points(self) -> Iterable[tuple[Labels, float]]:
        return self.values.items()


class Gauge(Counter):
    """``function``, when given, is asked for the value of a gauge without labels."""

    kind = "gauge"

    def __init__(
        self,
        name: str,
        help: str,
        names: Sequence[str] = (),
        function: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(name, help, names)
        self._function = function

    def set(self, value: float, *labels: str) -> None:
        self.values[labels] = value

    def points(self) -> Iterable[tuple[Labels, float]]:
        if self._function is not None:
            self.values[()] = self._function()
        return super().points()


class Collected(Metric):
    """A counter or gauge whose values are looked up when they are asked for."""

    def __init__(
        self,
        name: str,
        help: str,
        kind: str,
        names: Sequence[str],
        collect: Callable[[], Iterable[tuple[Labels, float]]],
    ) -> None:
        super().__init__(name, help, names)
        self.kind = kind
        self._collect = collect

    def points(self) -> Iterable[tuple[Labels, float]]:
        return self._collect()


class Histogram(Metric):
    kind = "histogram"

    def __init__(
        self, name: str, help: str, buckets: Sequence[float], names: Sequence[str] = ()
    ) -> None:
        super().__init__(name, help, names)
        self.buckets = tuple(buckets)
        self._series: dict[Labels, Series] = {}

    def observe(self, value: float, *labels: str) -> None:
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = Series(self.buckets)
        series.observe(value)

    def of(self, *labels: str) -> Series:
        """The series of these labels, for callers that observe without looking it up again."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = Series(self.buckets)
        return series

    def forget(self, *labels: str) -> None:
        self._series.pop(labels, None)

    def series(self) -> Iterable[tuple[Labels, Series]]:
        return self._series.items()

    def samples(self, name: str) -> Iterator[str]:
        for labels, series in sorted(self.series(), key=_labels_of):
            seen = 0
            for bound, count in zip((*series.buckets, None), series.counts, strict=True):
                seen += count
                limit = "+Inf" if bound is None else _number(bound)
                where = self._labels(labels, f'le="{limit}"')
                yield f"{name}_bucket{where} {seen}"
            yield f"{name}_sum{self._labels(labels)} {_number(series.total)}"
            yield f"{name}_count{self._labels(labels)} {seen}"


class CollectedHistogram(Histogram):
    """A histogram whose series are kept, and observed, elsewhere."""

    def __init__(
        self,
        name: str,
        help: str,
        names: Sequence[str],
        collect: Callable[[], Iterable[tuple[Labels, Series]]],
    ) -> None:
        super().__init__(name, help, (), names)
        self._collect = collect

    def series(self) -> Iterable[tuple[Labels, Series]]:
        return self._collect()


def _labels_of(pair: tuple[Labels, Series]) -> Labels:
    return pair[0]


class Registry:
    """The metrics of one component, in the order in which they were made, or by name."""

    def __init__(self, *, by_name: bool = False) -> None:
        self._metrics: dict[str, Metric] = {}
        self._shared: dict[type, Any] = {}
        self._by_name = by_name

    def add(self, *metrics: Metric) -> None:
        for metric in metrics:
            self._metrics[metric.name] = metric

    def get(self, name: str) -> Metric | None:
        return self._metrics.get(name)

    def shared(self, kind: type[T]) -> T:
        """The registry's one ``kind()``, an object whose attributes are metrics."""
        made: T | None = self._shared.get(kind)
        if made is None:
            made = self._shared[kind] = kind()
            self.add(*(each for each in vars(made).values() if isinstance(each, Metric)))
        return made

    def all(self) -> list[Metric]:
        if self._by_name:
            return [self._metrics[name] for name in sorted(self._metrics)]
        return list(self._metrics.values())

    def text(self, *, openmetrics: bool = False) -> str:
        texts = [metric.text(openmetrics=openmetrics) for metric in self.all()]
        if self._by_name:
            # As client_golang: what has no series yet is not there.
            texts = [text for text in texts if text.count("\n") > 2]
        if openmetrics:
            texts.append("# EOF\n")
        return "".join(texts)


def exposition(registry: Registry, accept: str) -> tuple[bytes, str]:
    """The body and content type that a scraper with this Accept header gets."""
    form = _preferred(accept) if accept else "text"
    if form == "protobuf":
        from pilothouse.componentbase import metrics_protobuf

        return metrics_protobuf.encode(registry), metrics_protobuf.CONTENT_TYPE
    if form == "openmetrics":
        return registry.text(openmetrics=True).encode(), OPENMETRICS_CONTENT_TYPE
    return registry.text().encode(), CONTENT_TYPE


def _preferred(accept: str) -> str:
    """As expfmt.Negotiate: the first form in the order of their weights that is known here."""
    found: list[tuple[float, str]] = []
    for clause in accept.split(","):
        kind, *parts = (part.strip() for part in clause.split(";"))
        parameters = dict(part.partition("=")[::2] for part in parts)
        form = ""
        if kind == "text/plain" and parameters.get("version", "0.0.4") == "0.0.4":
            form = "text"
        elif kind == "application/openmetrics-text":
            form = "openmetrics"
        elif kind == "application/vnd.google.protobuf" and (
            parameters.get("proto") == "io.prometheus.client.MetricFamily"
            and parameters.get("encoding") == "delimited"
        ):
            form = "protobuf"
        if form:
            found.append((_weight(parameters.get("q", "1")), form))
    return max(found, key=lambda pair: pair[0])[1] if found else "text"


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 1.0


def exponential_buckets(start: float, factor: float, count: int) -> tuple[float, ...]:
    found = []
    for _ in range(count):
        found.append(start)
        # As client_golang, so that bounds are the same to the last digit.
        start *= factor
    return tuple(found)


def build_info(info: Mapping[str, object]) -> Metric:
    """``kubernetes_build_info`` of a version.Info."""
    fields = {
        "build_date": "buildDate",
        "compiler": "compiler",
        "git_commit": "gitCommit",
        "git_tree_state": "gitTreeState",
        "git_version": "gitVersion",
        "go_version": "goVersion",
        "major": "major",
        "minor": "minor",
        "platform": "platform",
    }
    values = tuple(str(info.get(key, "")) for key in fields.values())
    return Collected(
        "kubernetes_build_info",
        "[BETA] A metric with a constant '1' value labeled by major, minor, git version, git "
        "commit, git tree state, build date, Go version, and compiler from which Kubernetes was "
        "built, and platform on which it is running.",
        "gauge",
        tuple(fields),
        lambda: ((values, 1.0),),
    )


def about_metrics(registry: Registry) -> tuple[Metric, ...]:
    """Which version this is, and how many metrics there are, of what stability."""
    from pilothouse.componentbase.version import MAJOR, MINOR, version_info

    def registered() -> Iterable[tuple[Labels, float]]:
        found: dict[Labels, float] = {}
        for metric in registry.all():
            level = metric.help[1:].partition("]")[0] if metric.help.startswith("[") else ""
            if level:
                found[(level, "")] = found.get((level, ""), 0.0) + 1
        return found.items()

    info = version_info()
    binary = str(info["gitVersion"]).removeprefix("v")
    least = f"{info['minCompatibilityMajor']}.{info['minCompatibilityMinor']}"
    labels = (binary, "kube", f"{MAJOR}.{MINOR}", least)
    return (
        Collected(
            "version_info",
            "[ALPHA] Provides the compatibility version info of the component. The component "
            "label is the name of the component, usually kube, but is relevant for "
            "aggregated-apiservers.",
            "gauge",
            ("binary", "component", "emulation", "min_compat"),
            lambda: ((labels, 1.0),),
        ),
        Collected(
            "registered_metrics_total",
            "[BETA] The count of registered metrics broken by stability level and deprecation "
            "version.",
            "counter",
            ("stability_level", "deprecated_version"),
            registered,
        ),
    )


def process_metrics() -> tuple[Metric, ...]:
    """``process_*`` as client_golang has them; read from /proc when asked for."""
    from pilothouse.componentbase.process_numbers import process_numbers

    described = (
        ("cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds."),
        ("max_fds", "gauge", "Maximum number of open file descriptors."),
        ("open_fds", "gauge", "Number of open file descriptors."),
        ("resident_memory_bytes", "gauge", "Resident memory size in bytes."),
        ("start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds."),
        ("virtual_memory_bytes", "gauge", "Virtual memory size in bytes."),
        (
            "virtual_memory_max_bytes",
            "gauge",
            "Maximum amount of virtual memory available in bytes.",
        ),
        (
            "network_receive_bytes_total",
            "counter",
            "Number of bytes received by the process over the network.",
        ),
        (
            "network_transmit_bytes_total",
            "counter",
            "Number of bytes sent by the process over the network.",
        ),
    )

    def collect(name: str) -> Callable[[], Iterable[tuple[Labels, float]]]:
        def look() -> Iterable[tuple[Labels, float]]:
            value = process_numbers().get(name)
            return () if value is None else (((), value),)

        return look

    return (
        *(
            Collected(f"process_{name}", help, kind, (), collect(name))
            for name, kind, help in described
        ),
        *_runtime_metrics(),
    )


def _runtime_metrics() -> tuple[Metric, ...]:
    """What of Go's runtime has its like here: dashboards ask for these two."""
    import asyncio
    import threading

    def tasks() -> Iterable[tuple[Labels, float]]:
        try:
            return [((), float(len(asyncio.all_tasks())))]
        except RuntimeError:
            return ()

    return (
        Collected(
            "go_goroutines",
            "Number of goroutines that currently exist (here: of asyncio's tasks).",
            "gauge",
            (),
            tasks,
        ),
        Collected(
            "go_threads",
            "Number of OS threads created (here: of Python's threads).",
            "gauge",
            (),
            lambda: (((), float(threading.active_count())),),
        ),
    )


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _number(value: float) -> str:
    """As Go's ``strconv.FormatFloat(value, 'g', -1, 64)``, which client_golang writes."""
    if -1e6 < value < 1e6 and value == int(value):
        return str(int(value))
    if value != value or value in (_INFINITY, -_INFINITY):
        return "NaN" if value != value else "+Inf" if value > 0 else "-Inf"
    text = repr(value)
    if 1e-4 <= abs(value) < 1e6:
        return text
    sign, digits, exponent = Decimal(text).normalize().as_tuple()
    at = len(digits) - 1 + int(exponent)
    first, rest = str(digits[0]), "".join(map(str, digits[1:]))
    return f"{'-' * sign}{first}{'.' * bool(rest)}{rest}e{'-' if at < 0 else '+'}{abs(at):02}"
