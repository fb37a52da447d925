"""A kubelet process with limits: logs, processes, memory; it is killed and goes on where it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from lib import HOME, NAME, leftovers, output, report, run, until

ROOT = Path(__file__).parents[3]
FLAGS = (
    "--container-log-max-size 20Ki --container-log-max-files 3 --pod-max-pids 30 "
    "--allowed-unsafe-sysctls kernel.msg* --eviction-hard memory.available<1Ki"
)
PODS = """
apiVersion: v1
kind: Pod
metadata: {name: chatty}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {sysctls: [{name: kernel.msgmax, value: "65536"}]}
  containers:
  - name: c
    image: busybox
    command:
    - sh
    - -c
    - |
      n=0
      while true; do n=$((n+1)); echo "line $n of many"; test $((n%100)) = 0 && sleep 0.1; done
    volumeMounts: [{name: m, mountPath: /m}, {name: m, mountPath: /sub, subPath: below}]
  volumes: [{name: m, emptyDir: {medium: Memory, sizeLimit: 1Mi}}]
---
apiVersion: v1
kind: Pod
metadata: {name: forks}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: busybox
    command: [sh, -c, 'for i in $(seq 60); do sleep 5 & done; echo none refused']
---
apiVersion: v1
kind: Pod
metadata: {name: together}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  initContainers: [{name: i, image: busybox, command: ["true"]}]
  containers:
  - {name: other, image: busybox, command: [sleep, "1000"]}
  - name: c
    image: busybox
    command: [sh, -c, 'if [ -e /kept/done ]; then sleep 1000; fi; touch /kept/done; exit 42']
    restartPolicy: Never
    restartPolicyRules: [{action: RestartAllContainers, exitCodes: {operator: In, values: [42]}}]
    volumeMounts: [{name: kept, mountPath: /kept}]
  volumes: [{name: kept, emptyDir: {}}]
"""


STATIC = """
apiVersion: v1
kind: Pod
metadata: {name: static}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: busybox, command: [sleep, "1000"]}]
"""


def kubectl(*arguments: str) -> str:
    return output("kubectl", *arguments)


def pod(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kubectl("get", "pod", name, "-o", "json"))
    return found


def statuses(name: str) -> dict[str, dict[str, Any]]:
    status = pod(name)["status"]
    listed = [*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ())]
    return {each["name"]: each for each in listed}


def kubelet_pid() -> int:
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
            if b"kubelet" in words and any(word.endswith(b"/pilothouse") for word in words):
                return int(entry)
    raise SystemExit("there is no kubelet")


def killed_and_started() -> subprocess.Popen[bytes]:
    pid = kubelet_pid()
    command = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
    os.kill(pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}/exe").exists(), "the kubelet is dead")
    log = open(directory / "logs" / "kubelet-2.log", "w")
    return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


directory = Path(tempfile.mkdtemp(dir=HOME.parent))
manifest = directory / "manifests" / "static.yaml"
manifest.parent.mkdir()
manifest.write_text(STATIC)
FLAGS += f" --pod-manifest-path {manifest.parent}"
script = subprocess.Popen(
    [str(ROOT / "hack" / "local-up-cluster.sh"), str(directory)],
    env=os.environ | {"RUNTIME": "oci", "NODE": NAME, "KUBELET_FLAGS": FLAGS},
    stdout=subprocess.PIPE, text=True,
)  # fmt: skip
assert script.stdout is not None
if "Ready" not in script.stdout.readline():
    logs = "".join(p.read_text()[-2000:] for p in (directory / "logs").glob("*.log"))
    raise SystemExit(f"not ready\n{logs}")
os.environ["KUBECONFIG"] = str(directory / "admin.kubeconfig")
until(lambda: run("kubectl", "get", "sa", "default", check=False).returncode == 0, "an account")
run("kubectl", "apply", "-f", "-", input=PODS)
kubectl("wait", "--for=condition=Ready", "pod/chatty", "--timeout=30s")
script_text = (
    "cat /proc/sys/kernel/msgmax; echo in > /sub/y; "
    "dd if=/dev/zero of=/m/x bs=4k count=512 2>/dev/null; stat -c %s /m/x; rm /m/x; cat /m/below/y"
)
volumes = kubectl("exec", "chatty", "--", "sh", "-c", script_text).split()
until(lambda: statuses("together").get("c", {}).get("restartCount") == 1, "all have restarted", 30)
until(lambda: "running" in statuses("together")["other"]["state"], "the other runs")
together = {
    name: (status["restartCount"], status.get("lastState", {}).get("terminated", {}).get("reason"))
    for name, status in statuses("together").items()
}
until(lambda: pod("forks")["status"]["phase"] == "Failed", "forks are refused")
refused = "can't fork" in kubectl("logs", "forks")
folder = next((directory / "nodes" / NAME / "logs").glob("default_chatty_*/c"))
until(
    lambda: len(list(folder.glob("*.gz"))) == 1 and len(list(folder.iterdir())) == 3,
    "logs are rotated", 60,
)  # fmt: skip
last = kubectl("logs", "chatty", "--tail=1")

before = {name: statuses(name) for name in ("chatty", "together")}
again = killed_and_started()
until(
    lambda: run("kubectl", "exec", "chatty", "--", "true", check=False).returncode == 0,
    "the kubelet answers", 30,
)  # fmt: skip
after = {name: statuses(name) for name in ("chatty", "together")}
same = all(
    after[name][c]["containerID"] == before[name][c]["containerID"]
    and after[name][c]["restartCount"] == before[name][c]["restartCount"]
    for name in before
    for c in before[name]
)
kept = kubectl("exec", "chatty", "--", "cat", "/m/below/y")
kubectl(
    "debug", "chatty", "--image=busybox", "--target=c", "--profile=general", "-c", "d", "--",
    "sh", "-c", "grep -q many /proc/1/cmdline && echo seen",
)  # fmt: skip
until(
    lambda: "seen" in run("kubectl", "logs", "chatty", "-c", "d", check=False).stdout, "debugging"
)
mirror = pod(f"static-{NAME}")
static = mirror["status"]["phase"]
kubectl("delete", "pod", f"static-{NAME}", "--wait=false")


def mirrored_anew() -> bool:
    done = run("kubectl", "get", "pod", f"static-{NAME}", "-o", "json", check=False)
    again = json.loads(done.stdout) if done.returncode == 0 else mirror
    return bool(
        again["metadata"]["uid"] != mirror["metadata"]["uid"]
        and again["status"].get("containerStatuses")
    )


until(mirrored_anew, "the mirror is there again", 20)
went_on = (
    statuses(f"static-{NAME}")["c"]["containerID"]
    == (mirror["status"]["containerStatuses"][0]["containerID"])
)
manifest.unlink()
kubectl("delete", "pod", "--all", "--timeout=30s")
mounted = [line for line in Path("/proc/mounts").read_text().splitlines() if "/pods/" in line]
again.terminate()
again.wait(10)
script.send_signal(signal.SIGTERM)
script.wait(30)
until(lambda: not leftovers()["processes"], "all processes are gone", 10)
report(
    volumes=volumes, together=together, refused=refused, last=last, same=same, kept=kept,
    static=static, went_on=went_on, mounted=mounted, leftovers=leftovers(),
)  # fmt: skip
