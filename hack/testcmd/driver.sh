#!/usr/bin/env bash
# Runs upstream's command-line suite ("test-cmd") against one server. Takes the place of
# hack/make-rules/test-cmd.sh of the release: same set-up, same order, but a failing function never
# ends the run, and each function's output and result are kept.
#
# Called by run.sh in a network of its own, with the release's tree as working directory:
#   BIN (kubectl, kubectl-convert, kube-apiserver, kube-controller-manager), RESULTS (folder),
#   HERE (this folder), CTLRMGR_HEALTHZ (address), ONLY (names of functions, empty: all), LIMIT (seconds a function may take).
set -o errexit -o nounset -o pipefail

export TMPDIR=/tmp # the suite looks for apiserver.crt there
tput() { :; } # no colours
mkdir -p _output && ln -sfn "$BIN" _output/bin
source hack/lib/init.sh
source hack/lib/test.sh
source test/cmd/legacy-script.sh

# What stays outside of this run: builds (the programs are there) and etcd (the server's own affair).
make() { :; }
kube::etcd::start() { :; }
kube::etcd::cleanup() { :; }

wait_healthy() { # wait_healthy URL NAME
  for ((i = 0; i < 300; i++)); do
    curl -kfs -H 'Authorization: Bearer admin-token' "$1" > /dev/null && return
    sleep 0.1
  done
  echo "$2 did not become healthy: see $RESULTS/$2.log" >&2
  exit 1
}

start_apiserver() { # start_apiserver FLAG...
  "$BIN/kube-apiserver" "$@" \
    --bind-address=127.0.0.1 \
    --authorization-mode=RBAC,AlwaysAllow \
    --secure-port="$SECURE_API_PORT" \
    --enable-admission-plugins=LimitRanger,ResourceQuota \
    --disable-admission-plugins=ServiceAccount,DefaultStorageClass,DefaultTolerationSeconds,MutatingAdmissionWebhook,ValidatingAdmissionWebhook,StorageObjectInUseProtection \
    --runtime-config=api/v1 \
    --service-account-key-file="$SERVICE_ACCOUNT_KEY" \
    --service-account-lookup=true \
    --service-account-issuer=https://kubernetes.default.svc \
    --service-account-signing-key-file="$SERVICE_ACCOUNT_KEY" \
    --storage-media-type="${KUBE_TEST_API_STORAGE_TYPE-}" \
    --cert-dir="$TMPDIR" \
    --service-cluster-ip-range=10.0.0.0/24 \
    --client-ca-file=hack/testdata/ca/ca.crt \
    --token-auth-file=hack/testdata/auth-tokens.csv > "$RESULTS/kube-apiserver.log" 2>&1 &
  export APISERVER_PID=$!
  wait_healthy "https://127.0.0.1:$SECURE_API_PORT/healthz" kube-apiserver
}

start_controllers() {
  cat > "$KUBE_TEMP/controller-manager.kubeconfig" << END
kind: Config
users: [{name: controller-manager, user: {token: admin-token}}]
clusters: [{name: local, cluster: {server: "https://127.0.0.1:$SECURE_API_PORT", insecure-skip-tls-verify: true}}]
contexts: [{name: local-context, context: {cluster: local, user: controller-manager}}]
current-context: local-context
END
  "$BIN/kube-controller-manager" \
    --kube-api-content-type="${KUBE_TEST_API_TYPE-}" \
    --cluster-signing-cert-file=hack/testdata/ca/ca.crt \
    --cluster-signing-key-file=hack/testdata/ca/ca.key \
    --kubeconfig="$KUBE_TEMP/controller-manager.kubeconfig" > "$RESULTS/kube-controller-manager.log" 2>&1 &
  export CTLRMGR_PID=$!
  wait_healthy "${CTLRMGR_HEALTHZ:-https://127.0.0.1:$SECURE_CTLRMGR_PORT/healthz}" kube-controller-manager
}

# What upstream's script does first: a server that reports another version.
run_inline_custom_version_tests() {
  set -o nounset
  set -o errexit
  start_apiserver "--version=$("$BIN/kube-apiserver" --version | awk '{print $2}')-custom"
  kube::test::if_has_string "$(kubectl get --raw /version)" "gitVersion.*-custom"
  kill "$APISERVER_PID"
  wait "$APISERVER_PID" || true
}

# The suite's own function for the node, without the program around it.
eval "$(sed -n '/^function create_node()/,/^__EOF__$/p' hack/make-rules/test-cmd.sh; echo '}')"

# Parts of runTests that upstream runs outside of any function: as functions of their own.
inline() { # inline NAME FROM TO: the lines of the script between the two patterns
  eval "run_inline_$1_tests() {
    set -o nounset
    set -o errexit
    $(sed -n "/$2/,/$3/p" test/cmd/legacy-script.sh | sed '$d')
  }"
}
inline api_resources '^  # find all resources' '^  ################'
inline auth '^  # kubectl auth can-i$' '^  #####################'

limited() { # limited NAME: upstream's record_command, ended after LIMIT seconds
  upstream_record_command "$1" < /dev/null > "$RESULTS/$1.log" 2>&1 &
  local child=$! watch
  (sleep "$LIMIT" && echo "stopped after $LIMIT s" >> "$RESULTS/$1.log" && kill -9 -- "-$child") > /dev/null 2>&1 &
  watch=$!
  wait "$child" || true
  kill -- "-$watch" 2> /dev/null || true
  wait "$watch" 2> /dev/null || true
}

eval "$(declare -f record_command | sed '1s/record_command/upstream_record_command/')"
record_command() {
  local name=$1 started result=pass
  name=${name#run_=} && [[ $name == "$1" ]] || name=${name%_tests}
  started=$(date +%s.%N)
  set -m
  limited "$name"
  set +m
  grep -q '+++ exit code: 0$' "$RESULTS/$name.log" || result=FAIL
  printf '%s\t%s\t%.1f\n' "$name" "$result" "$(echo "$(date +%s.%N) $started" | awk '{print $1 - $2}')" | tee -a "$RESULTS/results.tsv"
}

export KUBE_JUNIT_REPORT_DIR=$RESULTS/junit
setup > "$RESULTS/setup.log" 2>&1
SERVICE_ACCOUNT_KEY=$KUBE_TEMP/kube-serviceaccount.key
openssl genrsa -out "$SERVICE_ACCOUNT_KEY" 2048 2> /dev/null
functions=" ${ONLY:-$(SCRIPT=test/cmd/legacy-script.sh bash "$HERE/names.sh" | xargs)} "
if [[ $functions == *" run_inline_custom_version_tests "* ]]; then
  record_command run_inline_custom_version_tests
fi
start_apiserver
start_controllers
create_node
export SUPPORTED_RESOURCES=("*")
WHAT=
for name in $functions; do
  [ "$name" = run_inline_custom_version_tests ] || WHAT+=" =$name"
done
[ -z "$WHAT" ] || runTests
