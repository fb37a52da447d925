"""Pods find Services by name, and fetch from them by name."""

from __future__ import annotations

import json
import socket
import threading

from lib import HOME, NAME, jsonpath, kubectl, leftovers, output, pods, report, run, serve, until

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


def resolver() -> None:
    """A resolver of the machine (of this box), to which every name is 192.0.2.1."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.53", 53))
    answer = bytes.fromhex("c00c 0001 0001 0000003c 0004 c0000201")

    def serve_names() -> None:
        while True:
            query, client = sock.recvfrom(512)
            question = query[12 : query.index(0, 12) + 5]
            counts = bytes.fromhex("8180 0001 0001 0000 0000")
            sock.sendto(query[:2] + counts + question + answer, client)

    threading.Thread(target=serve_names, daemon=True).start()
    file = HOME / "resolv.conf"
    file.write_text("nameserver 127.0.0.53\n")
    output("mount", "--bind", str(file), "/etc/resolv.conf")


def fetch(url: str) -> str:
    done = run(
        "kubectl", "--context", NAME, "exec", "named", "--", "wget", "-qO-", url, check=False
    )
    return done.stdout.strip() or done.stderr


output("pilothouse", "up", "--name", NAME, "--nodes", "2", "--runtime", "oci", "--port", "0")
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
resolver()
facts["outside_now"] = lookup("www.example.com")
output("umount", "/etc/resolv.conf")
output("pilothouse", "down", "--name", NAME, "--delete")
report(
    **facts,
    names=names,
    ips=ips,
    pod_ip=pod_ip,
    dns_ip=dns_service["spec"]["clusterIP"],
    dns_ports=[(p["name"], p["port"], p["protocol"]) for p in dns_service["spec"]["ports"]],
    leftovers=leftovers(),
)
