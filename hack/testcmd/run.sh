#!/usr/bin/env bash
# Runs Kubernetes' own command-line suite ("test-cmd": the shell scripts of test/cmd, which drive a stock kubectl
# against an API server and controllers without kubelets) against Pilothouse; see docs/kubectl-test-cmd.md.
#
# usage: hack/testcmd/run.sh [--reference] [--storage memory|sqlite|etcd] [--no-document] [--list] [FUNCTION...]
#
#   FUNCTION        names such as run_pod_tests; none: all, in upstream's order (10 to 20 minutes)
#   --reference     upstream's own programs instead of ours (hack/bench/build_reference.sh builds them);
#                   writes no document: what fails here, too, is this machine's doing
#   --no-document   leaves docs/kubectl-test-cmd.md as it is
# Environment: LIMIT=300 (seconds a function may take), RESULTS=folder of the logs (below the cache).
#
# The scripts, kubectl and kubectl-convert come from the Go module of the release. Everything runs in namespaces of
# its own (network, processes, mounts with a private /tmp), with upstream's ports; needs root or user namespaces.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
. "$here/../lib_go.sh"

reference='' storage=sqlite document=yes list='' names=()
while [ $# -gt 0 ]; do
  case $1 in
    --reference) reference=yes document='' ;;
    --storage) storage=$2 && shift ;;
    --storage=*) storage=${1#*=} ;;
    --no-document) document='' ;;
    --list) list=yes ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" && exit 0 ;;
    -*) echo "unknown option $1; see --help" >&2 && exit 2 ;;
    *) names+=("$1") ;;
  esac
  shift
done

programs=$CACHE/testcmd/bin
results=${RESULTS:-$CACHE/testcmd/results${reference:+-reference}}
mkdir -p "$programs" "$results"
work=$(mktemp -d "$CACHE/testcmd/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

source=$(kubernetes_module "$work/module")
if [ -n "$list" ]; then
  SCRIPT=$source/test/cmd/legacy-script.sh bash "$here/names.sh"
  exit 0
fi
for program in kubectl kubectl-convert; do
  [ -x "$programs/$program" ] && continue
  echo "building $program" >&2
  (cd "$work/module" && CGO_ENABLED=0 GOFLAGS=-mod=mod go build -ldflags "$(version_flags)" -o "$work/$program" "k8s.io/kubernetes/cmd/$program")
  mv "$work/$program" "$programs/$program"
done

# The scripts and their files; a module has no file modes, but the plugins must be executable.
tree=$work/tree
mkdir -p "$tree"
(cd "$source" && cp -r --parents hack/lib hack/make-rules/test-cmd.sh hack/testdata test/cmd test/fixtures test/e2e/testing-manifests \
  third_party/forked/shell2junit cluster "$tree")
chmod -R u+w "$tree"
find "$tree/test/fixtures" -name 'kubectl-*' -type f -exec chmod +x {} +

# One function takes a file from GitHub; here there is no internet: the same file, from this machine.
sed -i "s,https://raw.githubusercontent.com/kubernetes/kubernetes/master/,http://127.0.0.1:18080/," "$tree/test/cmd/generic-resources.sh"

bin=$work/bin
mkdir -p "$bin"
ln -s "$programs/kubectl" "$programs/kubectl-convert" "$bin"
program() { # program NAME: stdin is the script that starts it
  { echo '#!/usr/bin/env bash'; cat; } > "$bin/$1"
  chmod +x "$bin/$1"
}
health=https etcd=''
if [ -n "$reference" ]; then
  etcd=yes
  # The address is that of the network below, which has no default route to choose one by.
  program kube-apiserver << END
exec $(printf %q "$CACHE/reference/bin/kube-apiserver") "\$@" --etcd-servers=http://127.0.0.1:2379 --advertise-address=10.255.0.1
END
  program kube-controller-manager <<< "exec $(printf %q "$CACHE/reference/bin/kube-controller-manager") \"\$@\""
else
  health=http
  case $storage in
    etcd) etcd=yes store=(--etcd-servers=http://127.0.0.1:2379) ;;
    sqlite) store=(--storage=sqlite "--data-dir=$work/data") ;;
    *) store=("--storage=$storage") ;;
  esac
  # The entry point that knows kube-apiserver's whole command line.
  program kube-apiserver << END
exec $(printf '%q ' "$root/.venv/bin/python") -m pilothouse.cli.envtest_apiserver "\$@" $(printf '%q ' "${store[@]}")
END
  # Ours talks JSON only, and its health port has no TLS.
  program kube-controller-manager << END
arguments=()
for argument in "\$@"; do [[ \$argument == --kube-api-content-type=* ]] || arguments+=("\$argument"); done
exec $(printf '%q ' "$root/.venv/bin/pilothouse") controller-manager "\${arguments[@]}" --healthz-port 10257
END
fi

unset "${!KUBE@}" HTTP_PROXY HTTPS_PROXY http_proxy https_proxy ALL_PROXY all_proxy
rm -rf "${results:?}"/*
: > "$results/results.tsv"
# ALLOW_SKEW is upstream's switch for servers that are built of another commit than kubectl.
export BIN=$bin RESULTS=$results ONLY="${names[*]-}" LIMIT=${LIMIT:-300} ALLOW_SKEW=1 \
  CTLRMGR_HEALTHZ=$health://127.0.0.1:10257/healthz HERE=$here TREE=$tree PYTHON=$root/.venv/bin/python \
  ETCD=${etcd:+$CACHE/reference/bin/etcd} DATA=$work/data
flags=(--net --mount --pid --fork --kill-child --mount-proc)
[ "$(id -u)" = 0 ] || flags+=(--map-root-user)
# shellcheck disable=SC2016 # for the inner shell
unshare "${flags[@]}" bash -euc '
  mount -t tmpfs tmpfs /tmp && mount -t tmpfs tmpfs /var/tmp
  ip link set lo up && ip address add 10.255.0.1/24 dev lo
  cd "$TREE"
  "$PYTHON" -m http.server -b 127.0.0.1 18080 > /dev/null 2>&1 &
  [ -z "$ETCD" ] || "$ETCD" --data-dir "$DATA" --unsafe-no-fsync --log-level error > "$RESULTS/etcd.log" 2>&1 &
  exec bash "$HERE/driver.sh"
' > "$results/driver.log" 2>&1 &
child=$!
trap 'kill "$child" 2> /dev/null || true; wait "$child" 2> /dev/null || true; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
tail -f --pid="$child" -n +1 "$results/results.tsv" &
wait "$child" || true
cd "$root"
"$root/.venv/bin/python" -m hack.testcmd.report "$results/results.tsv" ${document:+--document docs/kubectl-test-cmd.md}
