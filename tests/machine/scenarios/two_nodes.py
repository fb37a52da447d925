"""Two nodes, a Deployment, Services from everywhere; then nothing is left of it."""

from __future__ import annotations

import json
from collections import Counter

from lib import NAME, jsonpath, kubectl, leftovers, output, pods, report, run, serve, until


def fetch(url: str, *prefix: str) -> str:
    return run(*prefix, "curl", "-s", "-m", "3", url, check=False).stdout.strip()


def rules(node: str) -> str:
    return output("nsenter", f"--net=/run/netns/{node}", "iptables-legacy-save")


output("pilothouse", "up", "--name", NAME, "--nodes", "2", "--runtime", "oci", "--port", "0")
serve("hello", 4)
kubectl("expose", "deployment", "hello", "--port=80", "--type=NodePort")
names = {p["metadata"]["name"] for p in pods("app=hello")}
nodes = Counter(p["spec"]["nodeName"] for p in pods("app=hello"))
cluster_ip = jsonpath("{.spec.clusterIP}", "service", "hello")
node_port = jsonpath("{.spec.ports[0].nodePort}", "service", "hello")
node_ips = jsonpath("{.items[*].status.addresses[0].address}", "nodes").split()
netns = output("ls", "/run/netns").split()

from_machine = {fetch(f"http://{cluster_ip}/index.html") for _ in range(40)}
from_nodes = [
    fetch(f"http://{cluster_ip}/index.html", "nsenter", f"--net=/run/netns/{n}") for n in netns
]
from_pods = [
    kubectl("exec", name, "--", "wget", "-qO-", f"http://{cluster_ip}/index.html")
    for name in sorted(names)
]
pod_to_pod = [
    kubectl("exec", source, "--", "wget", "-qO-", f"http://{p['status']['podIP']}/index.html")
    for source in sorted(names)
    for p in pods("app=hello")
]
by_node_port = [fetch(f"http://{ip}:{node_port}/index.html") for ip in node_ips]
node_port_on_localhost = fetch(
    f"http://127.0.0.1:{node_port}/index.html", "nsenter", f"--net=/run/netns/{netns[0]}"
)

kubectl("patch", "service", "hello", "-p", '{"spec":{"sessionAffinity":"ClientIP"}}')
until(lambda: all("--rcheck" in rules(node) for node in netns), "the rules of all nodes follow")
# A reply from one endpoint ten times in a row is no chance.
sticky = {fetch(f"http://{cluster_ip}/index.html") for _ in range(10)}

kubectl("create", "service", "clusterip", "nobody", "--tcp=80")
nobody = jsonpath("{.spec.clusterIP}", "service", "nobody")
until(lambda: all(f"-d {nobody}/32" in rules(node) for node in netns), "the Service is known")
refused = run("curl", "-s", "-m", "10", f"http://{nobody}/", check=False).returncode

events = json.loads(kubectl("get", "events", "-o", "json"))["items"]
kubectl("delete", "deployment", "hello")
kubectl("wait", "--for=delete", "pod", "-l", "app=hello", "--timeout=30s")
output("pilothouse", "down", "--name", NAME, "--delete")
report(
    names=sorted(names),
    nodes=sorted(nodes.values()),
    from_machine=sorted(from_machine),
    from_nodes=from_nodes,
    from_pods=from_pods,
    pod_to_pod=pod_to_pod,
    by_node_port=by_node_port,
    node_port_on_localhost=node_port_on_localhost,
    sticky=sorted(sticky),
    refused=refused,
    reasons=sorted({e["reason"] for e in events}),
    leftovers=leftovers(),
)
