#!/usr/bin/env bash
# Builds what the conformance tests are made of: e2e.test, kubectl and agnhost of upstream's release, from the
# Go module proxy, and the test images as an OCI layout. What is there stays (a first build takes 10 to 15 minutes).
# usage: hack/conformance/build.sh [programs|images|all]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib_go.sh"
what=${1:-all}
out=$CACHE/conformance
mkdir -p "$out/bin"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CGO_ENABLED=0 GOFLAGS=-mod=mod

need() { [ ! -x "$out/bin/$1" ]; }

# build PROGRAM COMMAND...: runs the go command with its output under a temporary name, so that a broken-off
# build leaves nothing that looks finished.
build() {
  local program=$1
  shift
  need "$program" || return 0
  echo "building $program" >&2
  (cd "$work/k8s" && go "$@" -o "$work/$program" "${package[@]}")
  mv "$work/$program" "$out/bin/$program"
}

if need e2e.test || need kubectl || need agnhost || need consumer || need consume-cpu \
  || need regression-issue-74839; then
  source=$(kubernetes_module "$work/k8s")
  package=(k8s.io/kubernetes/test/e2e)
  build e2e.test test -c -ldflags "$(version_flags)"
  package=(k8s.io/kubernetes/cmd/kubectl)
  build kubectl build -ldflags "$(version_flags)"
  package=(k8s.io/kubernetes/test/images/agnhost)
  build agnhost build -ldflags "-s -w -X main.Version=$(cat "$source/test/images/agnhost/VERSION")"
  package=(k8s.io/kubernetes/test/images/resource-consumer)
  build consumer build -ldflags '-s -w'
  package=(k8s.io/kubernetes/test/images/resource-consumer/consume-cpu)
  build consume-cpu build -ldflags '-s -w'
  package=(k8s.io/kubernetes/test/images/regression-issue-74839)
  build regression-issue-74839 build -ldflags '-s -w'
fi
[ "$what" != programs ] || exit 0
# Built anew when what builds it has changed.
sources=$(cd "$here" && cat build_images.py oci_layout.py ./*.c | sha256sum | cut -d" " -f1)
if [ "$(cat "$out/layout.sources" 2> /dev/null)" != "$sources" ]; then
  rm -rf "$out/layout.part"
  cd "$here/../.."
  python3 -m hack.conformance.build_images "$out/layout.part" --agnhost "$out/bin/agnhost" --release "$KUBERNETES_RELEASE"
  rm -rf "$out/layout"
  mv "$out/layout.part" "$out/layout"
  echo "$sources" > "$out/layout.sources"
fi
