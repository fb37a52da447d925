"""Writes apiserver/registry/printing_columns.json from Kubernetes' sources.

Usage: python hack/update_printing.py KUBERNETES_MODULE API_MODULE. The columns stand in
pkg/printers/internalversion/printers.go; descriptions that it takes from the API's documentation
are looked up in types_swagger_doc_generated.go.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

GROUPS = {
    "api": "",
    "apiserverinternal": "internal.apiserver.k8s.io",
    "apps": "apps",
    "autoscaling": "autoscaling",
    "batch": "batch",
    "certificates": "certificates.k8s.io",
    "coordination": "coordination.k8s.io",
    "discovery": "discovery.k8s.io",
    "flowcontrol": "flowcontrol.apiserver.k8s.io",
    "networking": "networking.k8s.io",
    "nodeapi": "node.k8s.io",
    "policy": "policy",
    "rbac": "rbac.authorization.k8s.io",
    "resource": "resource.k8s.io",
    "scheduling": "scheduling.k8s.io",
    "storage": "storage.k8s.io",
    "storagemigration": "storagemigration.k8s.io",
    "admissionregistration": "admissionregistration.k8s.io",
}
COLUMN = re.compile(r"\{Name: (.*?)\},?$")
DOC = re.compile(r"(\w+)\.(\w+)\{\}\.SwaggerDoc\(\)\[\"(\w+)\"\]")


def swagger_docs(directory: Path) -> dict[str, dict[str, str]]:
    docs: dict[str, dict[str, str]] = {}
    for file in directory.rglob("types_swagger_doc_generated.go"):
        key = f"{file.parent.parent.name}{file.parent.name}"
        text = file.read_text()
        for kind, body in re.findall(
            r"var map_(\w+) = map\[string\]string\{\n(.*?)\n\}", text, re.S
        ):
            for name, quoted in re.findall(r'^\t"(\w*)":\s+("(?:[^"\\]|\\.)*"),$', body, re.M):
                docs.setdefault(f"{key}.{kind}", {})[name] = json.loads(quoted)
    return docs


def value_of(text: str, field: str) -> str:
    match = re.search(rf"\b{field}: \"((?:[^\"\\]|\\.)*)\"", text)
    return json.loads(f'"{match.group(1)}"') if match else ""


def description_of(text: str, docs: dict[str, dict[str, str]]) -> str:
    match = DOC.search(text)
    if match is None:
        return value_of(text, "Description")
    package, kind, field = match.groups()
    package = {"metav1": "metav1", "apiv1": "corev1"}.get(package, package)
    found = docs.get(f"{package}.{kind}", {}).get(field, "")
    if not found:
        found = next(
            (d[field] for k, d in docs.items() if k.endswith("." + kind) and field in d), ""
        )
    return found


def main() -> None:
    kubernetes, api = Path(sys.argv[1]), Path(sys.argv[2])
    docs = swagger_docs(api)
    docs |= swagger_docs(Path(sys.argv[3])) if len(sys.argv) > 3 else {}
    source = (kubernetes / "pkg/printers/internalversion/printers.go").read_text()
    handlers = source[source.index("func AddHandlers") :]
    kinds = {
        name: (package, kind)
        for name, package, kind in re.findall(
            r"^func (print\w+)\(\w+ \*(\w+)\.(\w+), ", source, re.M
        )
    }
    columns: dict[str, list[list[object]]] = {}
    table: dict[str, list[list[object]]] = {}
    current: list[list[object]] = []
    for line in handlers.splitlines():
        line = line.strip()
        start = re.match(r"(\w+) :?= \[\]metav1\.TableColumnDefinition\{", line)
        if start:
            current = columns.setdefault(start.group(1), [])
            current.clear()
        elif line.startswith("{Name:"):
            priority = re.search(r"Priority: (\d+)", line)
            current.append(
                [
                    value_of(line, "Name"),
                    value_of(line, "Type"),
                    value_of(line, "Format"),
                    description_of(line, docs),
                    int(priority.group(1)) if priority else 0,
                ]
            )
        else:
            use = re.search(r"TableHandler\((\w+), (\w+)\)", line)
            if use and use.group(2) in kinds:
                package, kind = kinds[use.group(2)]
                if package in GROUPS and not kind.endswith("List"):
                    table[f"{GROUPS[package]}/{kind}"] = list(columns[use.group(1)])
    target = Path(__file__).parent.parent / "apiserver/registry/printing_columns.json"
    lines = ",\n".join(
        f"{json.dumps(key)}: {json.dumps(value)}" for key, value in sorted(table.items())
    )
    target.write_text(f"{{\n{lines}\n}}\n")


main()
