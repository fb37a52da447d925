#!/usr/bin/env bash
# Runs official conformance tests against a cluster of its own; see docs/conformance.md for the last results.
# usage: hack/conformance/run.sh [--focus REGEX | --tests FILE | --need none,status | --check] [--update] …  (--help)
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
case " $* " in *" --help "* | *" -h "* | *" --list "*) ;; *) hack/conformance/build.sh all ;; esac
exec "$root/.venv/bin/python" -m hack.conformance.run "$@"
