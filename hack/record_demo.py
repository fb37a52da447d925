"""Runs the README's first commands for real and draws what a terminal showed: docs/demo.svg.

usage (root): hack/record_demo.py [OUT]        everything happens in namespaces of its own
"""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
SERVE = "'echo Hello from $(hostname) > /tmp/index.html; exec httpd -f -p 80 -h /tmp'"
COMMANDS = (
    "pilothouse up --nodes 2",
    f"kubectl create deployment hello --image=busybox --replicas=3 -- sh -c {SERVE}",
    "kubectl expose deployment hello --port=80",
    "kubectl rollout status deployment/hello",
    "kubectl get nodes,pods,services -o wide | cut -c1-112",
    "for i in 1 2 3; do curl -s $(kubectl get service hello -o jsonpath={.spec.clusterIP}); done",
    "kubectl exec deploy/hello -- ip addr show eth0",
    "pilothouse down --delete",
)
WIDTH, LINE, TOP = 1010, 18, 46
BOX = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--mount", "--net"]


def main() -> int:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "demo.svg"
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {
            "PILOTHOUSE_HOME": f"{home}/pilothouse",
            "KUBECONFIG": f"{home}/kubeconfig",
            "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}",
        }
        script = "ip link set lo up; mount -t tmpfs tmpfs /run\n" + "".join(
            f"echo '\x01{i}'; {command} 2>&1\n" for i, command in enumerate(COMMANDS)
        )
        done = subprocess.run(
            [*BOX, "--propagation", "private", "bash", "-c", script],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
    lines: list[tuple[str, str]] = []
    for part in done.stdout.split("\x01")[1:]:
        number, _, text = part.partition("\n")
        lines.append(("command", f"# {COMMANDS[int(number)]}"))
        shown = text.replace(home, "~").rstrip().splitlines()
        lines += [("output", re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in shown]
    out.write_text(draw(lines))
    print(f"wrote {out} ({len(lines)} lines)")
    return 0


def draw(lines: list[tuple[str, str]]) -> str:
    height = TOP + LINE * len(lines) + 16
    rows = "".join(
        f'<text x="16" y="{TOP + i * LINE}" class="{kind}" xml:space="preserve">'
        f"{html.escape(text)}</text>\n"
        for i, (kind, text) in enumerate(lines)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="ui-monospace,Menlo,Consolas,monospace" font-size="13">\n'
        "<style>.command{fill:#7ee787;font-weight:bold}.output{fill:#d0d7de}</style>\n"
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#0d1117"/>\n'
        '<circle cx="20" cy="16" r="5" fill="#ff5f56"/><circle cx="38" cy="16" r="5" '
        'fill="#ffbd2e"/><circle cx="56" cy="16" r="5" fill="#27c93f"/>\n'
        f"{rows}</svg>\n"
    )


if __name__ == "__main__":
    sys.exit(main())
