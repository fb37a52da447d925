"""What the scenarios share. They run as scripts, as root, inside namespaces of their own."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HOME = Path(os.environ["PILOTHOUSE_HOME"])
NAME = os.environ["TEST_NAME"]
"""Of the cluster: nobody else on the machine has it, so that what is left over is ours."""
SERVE = (
    'trap "exit 0" TERM; echo $(hostname) > /tmp/index.html; httpd -p 80 -h /tmp; '
    "while true; do sleep 1000 & wait $!; done"
)


def run(*command: str, check: bool = True, input: str = "") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, input=input)
    if check and done.returncode:
        log = HOME / "clusters"
        tails = "".join(p.read_text()[-3000:] for p in log.glob("*/logs/*.log"))
        raise SystemExit(f"{command} -> {done.returncode}\n{done.stdout}\n{done.stderr}\n{tails}")
    return done


def output(*command: str) -> str:
    return run(*command).stdout.strip()


def kubectl(*arguments: str, context: str = NAME) -> str:
    return output("kubectl", "--context", context, *arguments)


def jsonpath(path: str, *arguments: str, context: str = NAME) -> str:
    return kubectl("get", *arguments, "-o", f"jsonpath={path}", context=context)


def status(name: str = NAME) -> dict[str, Any]:
    described: dict[str, Any] = json.loads(
        run("pilothouse", "status", "--name", name, "-o", "json", check=False).stdout
    )
    return described


def until(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """For what happens outside of Kubernetes (a kernel, another process): asks again and again."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"timed out waiting until {what}")
        time.sleep(0.05)


def serve(name: str, replicas: int, context: str = NAME) -> None:
    """A Deployment whose pods answer HTTP with their names, available."""
    kubectl(
        "create", "deployment", name, "--image=busybox", f"--replicas={replicas}", "--",
        "sh", "-c", SERVE, context=context,
    )  # fmt: skip
    kubectl("wait", "--for=condition=Available", f"deployment/{name}", "--timeout=30s",
            context=context)  # fmt: skip


def pods(selector: str, context: str = NAME) -> list[dict[str, Any]]:
    listed = json.loads(kubectl("get", "pods", "-l", selector, "-o", "json", context=context))
    items: list[dict[str, Any]] = listed["items"]
    return items


def leftovers() -> dict[str, Any]:
    """What is on this machine (in this box) besides us."""
    links = [line.split(":")[1].strip() for line in output("ip", "-o", "link").splitlines()]
    mounts = Path("/proc/self/mounts").read_text()
    processes = [
        Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        for pid in os.listdir("/proc")
        if pid.isdigit() and int(pid) not in (1, os.getpid(), os.getppid())
    ]
    netns = Path("/run/netns")
    return {
        "links": [link for link in links if link != "lo"],
        "mounts": [line for line in mounts.splitlines() if str(HOME) in line],
        "processes": [p for p in processes if p],
        "namespaces": sorted(os.listdir(netns)) if netns.exists() else [],
        "rules": [
            line
            for line in run("iptables-legacy-save", check=False).stdout.splitlines()
            if "KUBE-" in line
        ],
    }


def report(**facts: Any) -> None:
    print(json.dumps(facts))
