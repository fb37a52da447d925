"""Pods find Services by name, and fetch from them by name."""

from __future__ import annotations

import json

from lib import NAME, jsonpath, kubectl, leftovers, output, pods, report, run, serve, until

MANIFEST = """
apiVersion: v1
kind: Service
metadata: {name: heads}
spec:
  clusterIP: None
  selector: {app: hello}
  ports: [{name: http, port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere}
spec: {type: ExternalName, externalName: hello.default.svc.cluster.local}
---
apiVersion: v1
kind: Pod
metadata: {name: named, labels: {app: named}}
spec:
  hostname: first
  subdomain: family
  containers: [{name: c, image: busybox, command: [sleep, "1000"]}]
---
apiVersion: v1
kind: Service
metadata: {name: family}
spec:
  clusterIP: None
  selector: {app: named}
"""


def lookup(name: str, type_: str = "a") -> dict[str, object]:
    """busybox's nslookup takes whole names only."""
    done = run(
        "kubectl",
        "--context",
        NAME,
        "exec",
        "named",
        "--",
        "nslookup",
        f"-type={type_}",
        name,
        check=False,
    )
    lines = done.stdout.splitlines()
    found = sorted(
        line.split()[-1] for line in lines[2:] if line.startswith("Address") and "#" not in line
    )
    return {"code": done.returncode, "addresses": found, "text": done.stdout + done.stderr}


def fetch(url: str) -> str:
    done = run(
        "kubectl", "--context", NAME, "exec", "named", "--", "wget", "-qO-", url, check=False
    )
    return done.stdout.strip() or done.stderr


output(
    "pilothouse",
    "up",
    "--name",
    NAME,
    "--name",
    NAME,
    "--nodes",
    "2",
    "--runtime",
    "oci",
    "--port",
    "0",
)
serve("hello", 2)
kubectl("expose", "deployment", "hello", "--port=80")
run("kubectl", "--context", NAME, "apply", "-f", "-", input=MANIFEST)
kubectl("wait", "--for=condition=Ready", "pod/named", "--timeout=30s")
names = sorted(p["metadata"]["name"] for p in pods("app=hello"))
ips = sorted(p["status"]["podIP"] for p in pods("app=hello"))
zone = "svc.cluster.local"
until(lambda: lookup(f"heads.default.{zone}")["addresses"] == ips, "the headless Service is known")
until(lambda: lookup(f"first.family.default.{zone}")["addresses"] != [], "the hostname is known")
pod_ip = jsonpath("{.status.podIP}", "pod", "named")
dns_service = json.loads(kubectl("get", "service", "-n", "kube-system", "kube-dns", "-o", "json"))
facts = {
    "resolv_conf": kubectl("exec", "named", "--", "cat", "/etc/resolv.conf"),
    "fetched": [
        fetch(f"http://{name}/index.html")
        for name in (
            "hello",
            "hello.default",
            "hello.default.svc",
            f"hello.default.{zone}",
            "heads",
            "elsewhere",
        )
    ],
    "cluster_ip": jsonpath("{.spec.clusterIP}", "service", "hello"),
    "kubernetes_ip": jsonpath("{.spec.clusterIP}", "service", "kubernetes"),
    "hello": lookup(f"hello.default.{zone}"),
    "kubernetes": lookup(f"kubernetes.default.{zone}"),
    "heads": lookup(f"heads.default.{zone}"),
    "elsewhere": lookup(f"elsewhere.default.{zone}"),
    "first": lookup(f"first.family.default.{zone}"),
    "by_address": lookup(f"{pod_ip.replace('.', '-')}.default.pod.cluster.local"),
    "srv": lookup(f"_http._tcp.heads.default.{zone}", "srv"),
    "nobody": lookup(f"nobody.default.{zone}"),
    "six": lookup(f"hello.default.{zone}", "aaaa"),
    "outside": lookup("www.example.com"),
    "partial": kubectl("exec", "named", "--", "ping", "-c", "1", "-W", "2", "first.family"),
}
output("pilothouse", "down", "--name", NAME, "--name", NAME, "--delete")
report(
    **facts,
    names=names,
    ips=ips,
    pod_ip=pod_ip,
    dns_ip=dns_service["spec"]["clusterIP"],
    dns_ports=[(p["name"], p["port"], p["protocol"]) for p in dns_service["spec"]["ports"]],
    leftovers=leftovers(),
)
