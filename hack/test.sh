#!/usr/bin/env bash
# All checks and tests, as CI runs them.
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/ruff check .
.venv/bin/ruff format --check -q .
.venv/bin/lint-imports --no-cache > /dev/null || .venv/bin/lint-imports --no-cache
.venv/bin/mypy
.venv/bin/python hack/verify_sizes.py
.venv/bin/python hack/update_compatibility.py --verify
hack/install_kubectl.sh
exec .venv/bin/python -m pytest -q "$@"
