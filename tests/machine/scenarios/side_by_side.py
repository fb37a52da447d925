"""Two clusters at once; what goes wrong is said clearly; data survives a plain down."""

from __future__ import annotations

import json
import os
from pathlib import Path

from lib import HOME, NAME, jsonpath, kubectl, leftovers, output, pods, report, run, serve, status


def failure(*command: str) -> str:
    done = run(*command, check=False)
    return done.stderr.strip() if done.returncode else "it worked"


ONE, TWO, THREE = (f"{NAME}{suffix}" for suffix in ("one", "two", "three"))
for name in (ONE, TWO):
    output("pilothouse", "up", "--name", name, "--runtime", "oci", "--port", "0")
    serve("hello", 1, context=name)
    kubectl("expose", "deployment", "hello", "--port=80", context=name)
answers = {}
for name in (ONE, TWO):
    ip = jsonpath("{.spec.clusterIP}", "service", "hello", context=name)
    expected = pods("app=hello", context=name)[0]["metadata"]["name"]
    answers[name] = [output("curl", "-s", "-m", "3", f"http://{ip}/index.html"), expected]
port = status(ONE)["server"].rpartition(":")[2]
failures = {
    "again": failure("pilothouse", "up", "--name", ONE),
    "port": failure("pilothouse", "up", "--name", THREE, "--runtime", "fake", "--port", port),
    "flag": failure("pilothouse", "up", "--name", "Bad_Name"),
    "etcd": failure("pilothouse", "up", "--name", THREE, "--storage", "etcd"),
}
kubectl("create", "configmap", "kept", context=ONE)
output("pilothouse", "down", "--name", ONE)
down = status(ONE)["running"]
output("pilothouse", "up", "--name", ONE, "--runtime", "oci", "--port", "0")
kubectl("get", "configmap", "kept", context=ONE)
kubectl("wait", "--for=condition=Available", "deployment/hello", "--timeout=30s", context=ONE)
output("pilothouse", "down", "--name", ONE)
database = next((HOME / "clusters" / ONE).glob("state.db"))
database.write_bytes(b"not a database" * 1000)
failures["damaged"] = failure("pilothouse", "up", "--name", ONE, "--runtime", "fake")
modes = {
    str(p.relative_to(HOME)): oct(p.stat().st_mode & 0o777)
    for p in (HOME / "clusters" / TWO).glob("pki/*.key")
}
kubeconfig = Path(os.environ["KUBECONFIG"])
modes["kubeconfig"] = oct(kubeconfig.stat().st_mode & 0o777)
contexts = output("kubectl", "config", "get-contexts", "-o", "name").split()
for name in (ONE, TWO, THREE):
    run("pilothouse", "down", "--name", name, "--delete", check=False)
left = output("kubectl", "config", "get-contexts", "-o", "name").split()
report(
    answers=answers,
    failures=failures,
    down=down,
    modes=modes,
    contexts=contexts,
    contexts_left=left,
    home=sorted(os.listdir(HOME / "clusters")),
    leftovers=leftovers(),
    json=json.loads(json.dumps(True)),
)
