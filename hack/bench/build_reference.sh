#!/usr/bin/env bash
# Builds the programs that the benchmarks compare with: kube-apiserver, kube-scheduler,
# kube-controller-manager and kubectl v1.37.2, and etcd 3.7, from their Go modules. What is there stays.
# usage: hack/bench/build_reference.sh [OUT]      (default: the cache's reference/bin)
set -euo pipefail
. "$(dirname "$0")/../lib_go.sh"
out=${1:-$CACHE/reference/bin}
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CGO_ENABLED=0 GOFLAGS=-mod=mod
if [ ! -x "$out/etcd" ]; then
  mkdir "$work/etcd" && cd "$work/etcd"
  go mod init pilothouse.example/etcd 2>/dev/null
  go mod edit "-require=go.etcd.io/etcd/server/v3@$ETCD_RELEASE"
  go build -ldflags '-s -w' -o "$out/etcd" go.etcd.io/etcd/server/v3
fi
kubernetes_module "$work/k8s" > /dev/null
cd "$work/k8s"
for program in kube-apiserver kube-scheduler kube-controller-manager kubectl; do
  [ -x "$out/$program" ] || go build -ldflags "$(version_flags)" -o "$out/$program" "k8s.io/kubernetes/cmd/$program"
done
ls -l "$out"
