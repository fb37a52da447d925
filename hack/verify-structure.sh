#!/usr/bin/env bash
# Fails when apis/structure.json is not what hack/update-structure.sh would write.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
work="$(mktemp -d)"
trap 'rm -rf "${work}"' EXIT
"${root}/hack/update-structure.sh" "${work}/structure.json"
if ! diff -q "${root}/apis/structure.json" "${work}/structure.json" > /dev/null; then
  echo "apis/structure.json is out of date: run hack/update-structure.sh" >&2
  diff "${root}/apis/structure.json" "${work}/structure.json" | cut -c1-200 | head -20 >&2
  exit 1
fi
echo "apis/structure.json is up to date"
