#!/usr/bin/env bash
# Makes .venv and installs Pilothouse into it with the given extras.
# usage: hack/install_python.sh PYTHON EXTRAS
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1 extras=$2
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "Pilothouse needs Python 3.11 or newer; $python is $("$python" --version). Try: make PYTHON=python3.11 $MAKECMDGOALS" >&2
  exit 1
}
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install -q --disable-pip-version-check -e ".[$extras]"
# Compiled now, so that the first start is as fast as the second.
.venv/bin/python -m compileall -q -j 0 src/pilothouse
