#!/usr/bin/env bash
# Fails when the generated facts and samples are not what hack/update-structure.sh would write.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
work="$(mktemp -d)"
trap 'rm -rf "${work}"' EXIT
"${root}/hack/update-structure.sh" "${work}/structure.json" "${work}/protobuf_samples.json"
for file in apis/structure.json tests/testdata/protobuf_samples.json; do
  if ! diff -q "${root}/${file}" "${work}/$(basename "${file}")" > /dev/null; then
    echo "${file} is out of date: run hack/update-structure.sh" >&2
    diff "${root}/${file}" "${work}/$(basename "${file}")" | cut -c1-200 | head -20 >&2
    exit 1
  fi
done
echo "apis/structure.json and tests/testdata/protobuf_samples.json are up to date"
