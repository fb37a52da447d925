#!/usr/bin/env bash
# A cluster of separate processes, as upstream runs them: a real etcd, the API server, the controllers, the
# scheduler, one kubelet, its proxy and DNS, talking HTTPS with client certificates. Ctrl-C (or SIGTERM) ends it.
#
#   hack/local-up-cluster.sh [DIR]          (default: a fresh folder below /tmp; KUBECONFIG is DIR/admin.kubeconfig)
#
# Environment: NODE=local-node, RUNTIME=oci|process|fake (auto), PORT=6443, ETCD=path of an etcd binary, BRIDGE_IP=10.198.0.1 (oci only).
# KUBELET_FLAGS: further flags of the kubelet.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=${1:-$(mktemp -d /tmp/pilothouse-local.XXXXXX)}
mkdir -p "$dir/logs" && chmod 700 "$dir"
dir=$(cd "$dir" && pwd)
port=${PORT:-6443} node=${NODE:-local-node} runtime=${RUNTIME:-auto}
if [ "$runtime" = auto ]; then
  if [ "$(id -u)" = 0 ] && command -v crun > /dev/null; then runtime=oci; else runtime=process; fi
fi
bin=.venv/bin
etcd=${ETCD:-$(command -v "$PWD/$bin/etcd" etcd | head -n 1)}
[ -n "$etcd" ] || { echo "no etcd here: apt-get install etcd-server, or ETCD=/path/of/etcd" >&2; exit 1; }

pids=() address=127.0.0.1 bridge=
finish() {
  trap - EXIT INT TERM
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do kill "${pids[i]}" 2> /dev/null || true; done
  wait 2> /dev/null || true
  if [ "$runtime" = oci ]; then
    # The shim and its pods outlive the kubelet; the rules outlive the proxy.
    "$bin/python" -m pilothouse.cluster.cleanup local "$dir" || true
    "$bin/pilothouse" proxy --kubeconfig "$dir/proxy.kubeconfig" --cleanup || true
    ip link delete "$bridge" 2> /dev/null || true
  fi
}
trap finish EXIT
trap 'exit 0' INT TERM

if [ "$runtime" = oci ]; then
  # Pods cannot reach the machine's loopback: the node and the API server get an address on a bridge.
  address=${BRIDGE_IP:-10.198.0.1} bridge=ph-local
  ip link show "$bridge" > /dev/null 2>&1 || ip link add "$bridge" type bridge
  ip addr replace "$address/24" dev "$bridge" && ip link set "$bridge" up
  ip route replace 10.96.0.0/16 dev "$bridge"
  sysctl -q -w net.ipv4.ip_forward=1
fi
"$bin/python" hack/make_pki.py "$dir" "https://$address:$port" "$node" "$address" 127.0.0.1 "$address"

start() { # start NAME COMMAND...
  local name=$1; shift
  "$@" > "$dir/logs/$name.log" 2>&1 & pids+=($!)
}
wait_for() { # wait_for WHAT COMMAND...: until it succeeds (at most 60 s)
  local what=$1; shift
  for ((i = 0; i < 600; i++)); do "$@" > /dev/null 2>&1 && return; sleep 0.1; done
  echo "$what did not come up; see $dir/logs" >&2; exit 1
}
ready() { "$bin/python" -m pilothouse.cli.fetch "$dir/admin.kubeconfig" "$1"; }
node_ready() { ready "/api/v1/nodes/$node" | grep -q '"type": "Ready", "status": "True"'; }

pki=$dir/pki
start etcd "$etcd" --data-dir "$dir/etcd" --listen-client-urls http://127.0.0.1:23790 \
  --advertise-client-urls http://127.0.0.1:23790 --listen-peer-urls http://127.0.0.1:23800 --log-level warn
start apiserver "$bin/pilothouse" apiserver --etcd-servers http://127.0.0.1:23790 \
  --bind-address "$([ "$address" = 127.0.0.1 ] && echo 127.0.0.1 || echo 0.0.0.0)" --secure-port "$port" --advertise-address "$address" \
  --tls-cert-file "$pki/apiserver.crt" --tls-private-key-file "$pki/apiserver.key" --client-ca-file "$pki/ca.crt" \
  --service-account-key-file "$pki/sa.pub" --service-account-signing-key-file "$pki/sa.key" \
  --service-account-issuer https://kubernetes.default.svc.cluster.local --service-cluster-ip-range 10.96.0.0/16 \
  --kubelet-client-certificate "$pki/apiserver-kubelet-client.crt" --kubelet-client-key "$pki/apiserver-kubelet-client.key" \
  --requestheader-client-ca-file "$pki/front-proxy-ca.crt" --requestheader-allowed-names front-proxy-client \
  --proxy-client-cert-file "$pki/front-proxy-client.crt" --proxy-client-key-file "$pki/front-proxy-client.key" \
  --kubelet-certificate-authority "$pki/ca.crt" --enable-admission-plugins NodeRestriction
wait_for "the API server" ready /readyz
start controller-manager "$bin/pilothouse" controller-manager --kubeconfig "$dir/controller-manager.kubeconfig" --root-ca-file "$pki/ca.crt" \
  --use-service-account-credentials
start scheduler "$bin/pilothouse" scheduler --kubeconfig "$dir/scheduler.kubeconfig"
dns=10.96.0.10
start kubelet "$bin/pilothouse" kubelet --kubeconfig "$dir/kubelet.kubeconfig" --hostname-override "$node" --node-ip "$address" \
  --runtime "$runtime" --root-dir "$dir/nodes/$node" --pod-cidr 10.244.0.0/24 --cluster-dns "$dns" --cluster-domain cluster.local \
  --tls-cert-file "$pki/kubelet-$node.crt" --tls-private-key-file "$pki/kubelet-$node.key" --client-ca-file "$pki/ca.crt" \
  ${KUBELET_FLAGS:-}
if [ "$runtime" = oci ]; then
  start proxy "$bin/pilothouse" proxy --kubeconfig "$dir/proxy.kubeconfig" --hostname-override "$node" --cluster-cidr 10.244.0.0/16
  start dns "$bin/pilothouse" dns --kubeconfig "$dir/admin.kubeconfig" --listen "$address:53" --service-ip "$dns" --healthz-port 0
fi
wait_for "the node" node_ready
echo "Ready: export KUBECONFIG=$dir/admin.kubeconfig   (logs in $dir/logs, runtime $runtime, Ctrl-C ends it)"
wait
