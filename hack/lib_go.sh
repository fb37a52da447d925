# Sourced by scripts that build upstream's programs from the Go module proxy.
# Every path below is a cache outside the tree: $PILOTHOUSE_CACHE or ~/.cache/pilothouse.

KUBERNETES_RELEASE=v1.37.2
STAGING_RELEASE=v0.37.2 # k8s.io/api and its siblings carry the same release as v0
ETCD_RELEASE=v3.7.0
CACHE=${PILOTHOUSE_CACHE:-$HOME/.cache/pilothouse}

# kubernetes_module DIR: a module in DIR in which k8s.io/kubernetes' packages can be built.
kubernetes_module() {
  local dir=$1 source
  mkdir -p "$dir"
  source=$(go mod download -json "k8s.io/kubernetes@$KUBERNETES_RELEASE" | python3 -c 'import json,sys; print(json.load(sys.stdin)["Dir"])')
  {
    echo 'module pilothouse.example/upstream'
    sed -nE '/^(go|godebug) /p' "$source/go.mod"
    echo "require k8s.io/kubernetes $KUBERNETES_RELEASE"
    # In upstream's own tree these are folders; elsewhere they are modules of the same release.
    sed -nE "s,^[[:space:]]+(k8s\.io/[a-z0-9-]+) => \./staging/.*,replace \1 => \1 $STAGING_RELEASE,p" "$source/go.mod"
  } > "$dir/go.mod"
  echo "$source"
}

version_flags() {
  local v=k8s.io/component-base/version
  echo "-s -w -X $v.gitVersion=$KUBERNETES_RELEASE -X $v.gitMajor=1 -X $v.gitMinor=37 -X $v.gitTreeState=clean"
}
