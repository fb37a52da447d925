#!/usr/bin/env bash
# An upstream control plane with our fake kubelet as its node pilothouse-1: what the recorded transcripts come from.
# Ctrl-C ends it. The programs: hack/bench/build_reference.sh. Then:
#
#   tests/e2e/reference.sh DIR & KUBECONFIG=DIR/admin.kubeconfig .venv/bin/python tests/e2e/transcripts.py record
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=${1:-$(mktemp -d /tmp/pilothouse-reference.XXXXXX)} port=${PORT:-16443}
programs=${PILOTHOUSE_CACHE:-$HOME/.cache/pilothouse}/reference/bin pki=$dir/pki pids=()
mkdir -p "$dir/logs"
.venv/bin/python hack/make_pki.py "$dir" "https://127.0.0.1:$port" pilothouse-1 127.0.0.1 127.0.0.1
trap 'kill "${pids[@]}" 2> /dev/null; wait; exit 0' INT TERM EXIT

start() { # start NAME COMMAND...
  local name=$1; shift
  "$@" > "$dir/logs/$name.log" 2>&1 & pids+=($!)
}
component() { # component NAME FLAG...
  local name=$1 config=$dir/$1.kubeconfig; shift
  start "$name" "$programs/kube-$name" --kubeconfig "$config" --authentication-kubeconfig "$config" \
    --authorization-kubeconfig "$config" --leader-elect=false --bind-address=127.0.0.1 "$@"
}

etcd=http://127.0.0.1:$((port + 1)) peer=http://127.0.0.1:$((port + 2))
start etcd "$programs/etcd" --data-dir "$dir/etcd" --listen-client-urls $etcd --advertise-client-urls $etcd \
  --listen-peer-urls $peer --initial-advertise-peer-urls $peer --initial-cluster default=$peer --log-level error
start apiserver "$programs/kube-apiserver" --etcd-servers $etcd --secure-port "$port" --bind-address=127.0.0.1 \
  --advertise-address=127.0.0.1 --tls-cert-file "$pki/apiserver.crt" --tls-private-key-file "$pki/apiserver.key" \
  --client-ca-file "$pki/ca.crt" --service-account-key-file "$pki/sa.pub" --service-account-signing-key-file "$pki/sa.key" \
  --service-account-issuer=https://kubernetes.default.svc.cluster.local --service-cluster-ip-range=10.96.0.0/16 \
  --authorization-mode=Node,RBAC --enable-admission-plugins NodeRestriction --endpoint-reconciler-type=none \
  --allow-privileged=true
until .venv/bin/python -m pilothouse.cli.fetch "$dir/admin.kubeconfig" /readyz > /dev/null 2>&1; do sleep 0.2; done
component controller-manager --secure-port $((port + 3)) --use-service-account-credentials --root-ca-file "$pki/ca.crt" \
  --service-account-private-key-file "$pki/sa.key"
component scheduler --secure-port $((port + 4))
start kubelet .venv/bin/pilothouse kubelet --kubeconfig "$dir/kubelet.kubeconfig" --hostname-override pilothouse-1 \
  --node-ip 127.0.0.1 --runtime fake --root-dir "$dir/nodes" --pod-cidr 10.244.0.0/24 \
  --tls-cert-file "$pki/kubelet-pilothouse-1.crt" --tls-private-key-file "$pki/kubelet-pilothouse-1.key" \
  --client-ca-file "$pki/ca.crt"
echo "Ready: export KUBECONFIG=$dir/admin.kubeconfig"
wait
