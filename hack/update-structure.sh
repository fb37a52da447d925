#!/usr/bin/env bash
# Writes apis/structure.json and tests/testdata/protobuf_samples.json from the Go sources of the modules pinned in hack/structure/go.mod.
# Needs Go and the module cache (or a proxy). The pair of hack/verify-structure.sh.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
structure="${1:-${root}/apis/structure.json}"
samples="${2:-${root}/tests/testdata/protobuf_samples.json}"
cd "${root}/hack/structure"
go mod download k8s.io/api k8s.io/apimachinery k8s.io/apiextensions-apiserver k8s.io/kube-aggregator
go run . > "${structure}.new"
mv "${structure}.new" "${structure}"
go run ./samples > "${samples}.new"
mv "${samples}.new" "${samples}"
