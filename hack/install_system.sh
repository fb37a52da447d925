#!/usr/bin/env bash
# Installs the Debian packages that pods need (as root, with apt-get); says what is missing otherwise.
# usage: hack/install_system.sh runtime|test
set -euo pipefail
packages=(crun iptables nftables conntrack iproute2 busybox-static)
[ "${1:-runtime}" = test ] && packages+=(etcd-server umoci)
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ]; then
  echo "note: without root these stay uninstalled: ${missing[*]} (pilothouse picks the best runtime that is left)" >&2
  exit 0
fi
if ! command -v apt-get > /dev/null; then
  echo "note: no apt-get here; please install: ${missing[*]}" >&2
  exit 0
fi
echo "installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
# Services of these packages (etcd) must not start by themselves.
policy=/usr/sbin/policy-rc.d
made=
if [ ! -e $policy ]; then printf '#!/bin/sh\nexit 101\n' > $policy && chmod +x $policy && made=1; fi
trap '[ -z "$made" ] || rm -f $policy' EXIT
apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null 2>&1 || {
  apt-get update -qq > /dev/null
  apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
}
