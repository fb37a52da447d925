"""A StatefulSet whose pods keep their data; volumes grow, and go when they are not wanted."""

from __future__ import annotations

import json
from pathlib import Path

from lib import HOME, NAME, jsonpath, kubectl, leftovers, output, pods, report, run, until

MANIFEST = """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  selector: {matchLabels: {app: db}}
  persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete, whenScaled: Retain}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      securityContext: {runAsUser: 1000, fsGroup: 2000}
      containers:
      - name: c
        image: busybox
        command: [sh, -c, 'trap "exit 0" TERM; echo $(hostname) $(id -G) >> /data/log; cat /scratch/* ; while true; do sleep 1000 & wait $!; done']
        volumeMounts:
        - {name: data, mountPath: /data, subPath: inner}
        - {name: data, mountPath: /all, readOnly: true}
        - {name: scratch, mountPath: /scratch}
      volumes:
      - name: scratch
        ephemeral:
          volumeClaimTemplate:
            spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: static}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: ""
  local: {path: LOCAL}
  nodeAffinity:
    required:
      nodeSelectorTerms:
      - matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [NODE]}]
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: static}
spec: {accessModes: [ReadWriteOnce], storageClassName: "", resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: reader}
spec:
  containers: [{name: c, image: busybox, command: [sleep, "1000"], volumeMounts: [{name: v, mountPath: /v}]}]
  volumes: [{name: v, persistentVolumeClaim: {claimName: static, readOnly: true}}]
"""  # noqa: E501


def ready() -> bool:
    """Both pods are there, stay, and are ready."""
    present = [p for p in pods("app=db") if "deletionTimestamp" not in p["metadata"]]
    conditions = [c for p in present for c in p["status"].get("conditions", ())]
    return [c["status"] for c in conditions if c["type"] == "Ready"] == ["True"] * 2


def log_of(name: str) -> list[str]:
    return kubectl("exec", name, "--", "cat", "/data/log").splitlines()


output("pilothouse", "up", "--name", NAME, "--nodes", "2", "--runtime", "oci", "--port", "0")
local = HOME / "static"
local.mkdir()
(local / "hello").write_text("from the node\n")
second = jsonpath("{.items[1].metadata.name}", "nodes")
manifest = MANIFEST.replace("LOCAL", str(local)).replace("NODE", second)
run("kubectl", "--context", NAME, "apply", "-f", "-", input=manifest)
kubectl("wait", "--for=condition=Ready", "pod/reader", "--timeout=30s")
until(ready, "both pods are ready", 40)
nodes = {p["metadata"]["name"]: p["spec"]["nodeName"] for p in pods("app=db")}

kubectl("delete", "pod", "db-0", "db-1")
until(ready, "both pods are back", 40)
again = {p["metadata"]["name"]: p["spec"]["nodeName"] for p in pods("app=db")}
logs = {name: log_of(name) for name in nodes}
outside = kubectl("exec", "db-0", "--", "cat", "/all/inner/log").splitlines()
denied = run("kubectl", "--context", NAME, "exec", "db-0", "--", "touch", "/all/x", check=False)
static = kubectl("exec", "reader", "--", "cat", "/v/hello")
read_only = run("kubectl", "--context", NAME, "exec", "reader", "--", "touch", "/v/x", check=False)
reader_node = jsonpath("{.spec.nodeName}", "pod", "reader")

patch = '{"spec":{"resources":{"requests":{"storage":"1Gi"}}}}'
kubectl("patch", "pvc", "data-db-0", "-p", patch)
until(lambda: jsonpath("{.status.capacity.storage}", "pvc", "data-db-0") == "1Gi", "it grew")

explained = json.loads(output("pilothouse", "explain-pod", "db-0", "--name", NAME, "-o", "json"))
volumes = json.loads(kubectl("get", "pv", "-o", "json"))["items"]
paths = [Path(v["spec"]["hostPath"]["path"]) for v in volumes if "hostPath" in v["spec"]]
made = [path.is_dir() for path in paths]
kubectl("delete", "statefulset", "db")
until(lambda: jsonpath("{.items[*].metadata.name}", "pvc") == "static", "the claims are gone")
until(lambda: jsonpath("{.items[*].metadata.name}", "pv") == "static", "their volumes are gone")
left = [path.exists() for path in paths]
output("pilothouse", "down", "--name", NAME, "--delete")
report(
    same_nodes=nodes == again,
    logs=logs,
    outside=outside,
    denied=denied.returncode,
    static=static,
    read_only=read_only.returncode,
    reader_node=reader_node == second,
    explained=[n["node"] for n in explained["nodes"] if n["feasible"]] == [nodes["db-0"]],
    made=made,
    left=left,
    kept=(local / "hello").read_text(),
    leftovers=leftovers(),
)
