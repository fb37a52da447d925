#!/usr/bin/env bash
# Writes apis/structure.json from the Go sources of the modules pinned in hack/structure/go.mod.
# Needs Go and the module cache (or a proxy). The pair of hack/verify-structure.sh.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
target="${1:-${root}/apis/structure.json}"
cd "${root}/hack/structure"
go mod download k8s.io/api k8s.io/apimachinery k8s.io/apiextensions-apiserver k8s.io/kube-aggregator
go run . > "${target}.new"
mv "${target}.new" "${target}"
