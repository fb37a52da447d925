"""kill -9 of the whole cluster in the middle of writes; the second time of the shims, too. Then for
`down --delete` to clear away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading

from lib import NAME, kubectl, leftovers, output, pods, report, serve, status, until


def container_ids() -> list[str]:
    return sorted(p["status"]["containerStatuses"][0]["containerID"] for p in pods("app=hello"))


def write_until_killed(prefix: str, kill: list[int]) -> list[str]:
    """ConfigMaps as fast as kubectl's proxy takes them; the names that were acknowledged."""
    proxy = subprocess.Popen(
        ["kubectl", "proxy", "--port=0"], stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert proxy.stdout is not None
    port = proxy.stdout.readline().rsplit(":", 1)[1].strip()
    acknowledged: list[str] = []
    url = f"http://127.0.0.1:{port}/api/v1/namespaces/default/configmaps"

    def write() -> None:
        import urllib.request

        for i in range(10_000):
            body = json.dumps({"metadata": {"name": f"{prefix}-{i}"}, "data": {"i": str(i)}})
            request = urllib.request.Request(
                url, body.encode(), {"Content-Type": "application/json"}, method="POST"
            )
            try:
                with urllib.request.urlopen(request, timeout=5) as answer:
                    if answer.status == 201:
                        acknowledged.append(f"{prefix}-{i}")
            except OSError:
                return

    writer = threading.Thread(target=write)
    writer.start()
    until(lambda: len(acknowledged) > 60, "some writes were acknowledged")
    for pid in kill:
        os.kill(pid, signal.SIGKILL)
    writer.join()
    proxy.kill()
    proxy.wait()
    return acknowledged


output("pilothouse", "up", "--name", NAME, "--runtime", "oci", "--port", "0")
serve("hello", 2)
before = container_ids()
main, *shims = status()["pids"]

first = write_until_killed("first", [main])
until(lambda: not status()["running"], "the process is gone")
output("pilothouse", "up", "--name", NAME, "--runtime", "oci", "--port", "0")
kept = container_ids()
kubectl("scale", "deployment", "hello", "--replicas=3")
kubectl("rollout", "status", "deployment/hello", "--timeout=30s")

main, *shims = status()["pids"]
second = write_until_killed("second", [main, *shims])
until(lambda: not status()["running"], "the process is gone")
output("pilothouse", "up", "--name", NAME, "--runtime", "oci", "--port", "0")
kubectl("wait", "--for=condition=Available", "deployment/hello", "--timeout=30s")
there = set(kubectl("get", "configmaps", "-o", "name").replace("configmap/", "").split())
running = [p["status"]["phase"] for p in pods("app=hello")]
answers = [
    kubectl("exec", p["metadata"]["name"], "--", "cat", "/tmp/index.html")
    for p in pods("app=hello")
]
names = sorted(p["metadata"]["name"] for p in pods("app=hello"))
for pid in status()["pids"]:
    os.kill(pid, signal.SIGKILL)  # `down` has to find what they left: pods, networks, cgroups
until(lambda: not status()["running"], "the process is gone")
output("pilothouse", "down", "--name", NAME, "--delete")
report(
    before=before,
    kept=kept,
    acknowledged=len(first) + len(second),
    lost=sorted({*first, *second} - there),
    running=running,
    answers=sorted(answers),
    names=names,
    leftovers=leftovers(),
)
