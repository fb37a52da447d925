"""hack/local-up-cluster.sh: each component a process, over HTTPS, on a real etcd."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from pathlib import Path

from lib import HOME, NAME, leftovers, output, report, run, until

ROOT = Path(__file__).parents[3]
directory = Path(tempfile.mkdtemp(dir=HOME.parent))
script = subprocess.Popen(
    [str(ROOT / "hack" / "local-up-cluster.sh"), str(directory)],
    env=os.environ | {"RUNTIME": "oci", "NODE": NAME}, stdout=subprocess.PIPE, text=True,
)  # fmt: skip
assert script.stdout is not None
line = script.stdout.readline()
if "Ready" not in line:
    logs = "".join(p.read_text()[-2000:] for p in (directory / "logs").glob("*.log"))
    raise SystemExit(f"not ready: {line}\n{logs}")
os.environ["KUBECONFIG"] = str(directory / "admin.kubeconfig")


def kubectl(*arguments: str) -> str:
    return output("kubectl", *arguments)


serve = 'trap "exit 0" TERM; echo hello > /tmp/index.html; httpd -p 80 -h /tmp; sleep 1000 & wait'
kubectl("create", "deployment", "hello", "--image=busybox", "--replicas=2", "--", "sh", "-c", serve)
kubectl("expose", "deployment", "hello", "--port=80")
kubectl("rollout", "status", "deployment/hello", "--timeout=30s")
ip = kubectl("get", "service", "hello", "-o", "jsonpath={.spec.clusterIP}")
answer = output(
    "curl", "-s", "-m", "3", "--retry", "3", "--retry-connrefused", f"http://{ip}/index.html"
)
by_name = kubectl("exec", "deploy/hello", "--", "wget", "-qO-", "http://hello/index.html")
executed = kubectl("exec", "deploy/hello", "--", "cat", "/tmp/index.html")
keys = run(
    "etcdctl", "--endpoints", "http://127.0.0.1:23790", "get", "/registry/pods/default", "--prefix",
    "--keys-only", check=False,
).stdout.split()  # fmt: skip
users = kubectl("get", "deployment", "hello", "-o", "jsonpath={.metadata.managedFields[*].manager}")
kubectl("delete", "deployment", "hello")
kubectl("wait", "--for=delete", "pod", "-l", "app=hello", "--timeout=30s")
script.send_signal(signal.SIGTERM)
code = script.wait(30)
until(lambda: not leftovers()["processes"], "all processes are gone", 10)
report(
    answer=answer,
    by_name=by_name,
    executed=executed,
    keys=keys,
    users=users,
    code=code,
    leftovers=leftovers(),
)
