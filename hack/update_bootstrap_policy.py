"""Writes (or with --verify checks) apiserver/authorization/bootstrap_policy.json.

Takes the directory of a kubernetes source tree; reads the YAML of all bootstrap roles and
bindings that upstream keeps as test data and packs it: one role a line, a rule is
[verbs, apiGroups, resources, resourceNames, nonResourceURLs], each comma-joined, trailing empty
ones left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import yaml

TESTDATA = "plugin/pkg/auth/authorizer/rbac/bootstrappolicy/testdata"
TARGET = Path(__file__).parent.parent / "apiserver/authorization/bootstrap_policy.json"
FIELDS = ("verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs")
DEFAULT_LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}


def pack_rule(rule: dict[str, Any]) -> list[str]:
    assert set(rule) <= set(FIELDS), rule
    packed = [",".join(rule.get(field) or ()) for field in FIELDS]
    while packed and not packed[-1]:
        packed.pop()
    return packed


def pack(obj: dict[str, Any]) -> dict[str, Any]:
    metadata = obj["metadata"]
    row: dict[str, Any] = {"name": metadata["name"]}
    if "namespace" in metadata:
        row["namespace"] = metadata["namespace"]
    assert metadata["annotations"] == {"rbac.authorization.kubernetes.io/autoupdate": "true"}
    labels = {k: v for k, v in metadata["labels"].items() if k not in DEFAULT_LABELS}
    if labels:
        row["labels"] = labels
    if "roleRef" in obj:
        row["role"] = f"{obj['roleRef']['kind']}/{obj['roleRef']['name']}"
        row["subjects"] = [
            "/".join(filter(None, (s["kind"], s.get("namespace"), s["name"])))
            for s in obj.get("subjects") or ()
        ]
    elif "aggregationRule" in obj:
        selectors = obj["aggregationRule"]["clusterRoleSelectors"]
        row["aggregate"] = [s["matchLabels"] for s in selectors]
    else:
        row["rules"] = [pack_rule(rule) for rule in obj["rules"]]
    return row


def generate(source: Path) -> str:
    files = {
        "clusterRoles": ("cluster-roles", "controller-roles"),
        "clusterRoleBindings": ("cluster-role-bindings", "controller-role-bindings"),
        "roles": ("namespace-roles",),
        "roleBindings": ("namespace-role-bindings",),
    }
    parts = []
    for key, names in files.items():
        rows: dict[tuple[str, str], str] = {}
        for name in names:
            for obj in yaml.safe_load((source / TESTDATA / f"{name}.yaml").read_text())["items"]:
                row = pack(obj)
                rows[row.get("namespace", ""), row["name"]] = json.dumps(row, separators=(",", ":"))
        parts.append(f'"{key}": [\n' + ",\n".join(rows[k] for k in sorted(rows)) + "\n]")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="root of a kubernetes source tree")
    parser.add_argument("--verify", action="store_true")
    arguments = parser.parse_args()
    text = generate(arguments.source)
    if arguments.verify:
        if TARGET.read_text() != text:
            print(f"{TARGET.name} is out of date", file=sys.stderr)
            return 1
        return 0
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
