"""/etc/hosts and /etc/resolv.conf of a pod (pure but for the machine's own resolv.conf)."""

from __future__ import annotations

from pilothouse.apimachinery.object import Obj
from pilothouse.kubelet.runtime.container_specs import domain_of, hostname_of

HEADER = "# Kubernetes-managed hosts file.\n"
HOST_NETWORK_HEADER = "# Kubernetes-managed hosts file (host network).\n"
LOCAL = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::0\tip6-localnet\n"
    "fe00::0\tip6-mcastprefix\n"
    "fe00::1\tip6-allnodes\n"
    "fe00::2\tip6-allrouters\n"
)


def hosts_file(pod: Obj, pod_ip: str, cluster_domain: str, machine: str = "") -> str:
    spec = pod["spec"]
    if spec.get("hostNetwork"):
        text = HOST_NETWORK_HEADER + (machine or _read("/etc/hosts") or LOCAL)
    else:
        text = HEADER + LOCAL
        host = hostname_of(pod)
        domain = domain_of(pod, cluster_domain)
        if domain:
            text += f"{pod_ip}\t{host}.{domain}\t{host}\n"
        else:
            text += f"{pod_ip}\t{host}\n"
    aliases = spec.get("hostAliases") or ()
    if aliases:
        text += "\n# Entries added by HostAliases.\n"
        for alias in aliases:
            text += "\t".join((alias["ip"], *(alias.get("hostnames") or ()))) + "\n"
    return text


def resolv_conf(
    pod: Obj, cluster_dns: tuple[str, ...], cluster_domain: str, machine: str | None = None
) -> str:
    """By dnsPolicy: the cluster's servers, the machine's, or only what dnsConfig says."""
    spec = pod["spec"]
    policy = spec.get("dnsPolicy") or "ClusterFirst"
    if spec.get("hostNetwork") and policy == "ClusterFirst":
        policy = "Default"
    servers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    if policy in ("ClusterFirst", "ClusterFirstWithHostNet") and cluster_dns:
        namespace = pod["metadata"].get("namespace")
        servers = list(cluster_dns)
        searches = [f"{namespace}.svc.{cluster_domain}", f"svc.{cluster_domain}", cluster_domain]
        options = ["ndots:5"]
    elif policy != "None":
        text = _read("/etc/resolv.conf") if machine is None else machine
        servers, searches, options = _parse(text)
    config = spec.get("dnsConfig") or {}
    servers += [s for s in config.get("nameservers") or () if s not in servers]
    searches += [s for s in config.get("searches") or () if s not in searches]
    for option in config.get("options") or ():
        name = option["name"]
        options = [o for o in options if o.partition(":")[0] != name]
        options.append(f"{name}:{option['value']}" if option.get("value") is not None else name)
    lines = []
    if searches:
        lines.append("search " + " ".join(searches))
    lines += (f"nameserver {server}" for server in servers[:3])
    if options:
        lines.append("options " + " ".join(options))
    return "\n".join(lines) + "\n"


def _parse(text: str) -> tuple[list[str], list[str], list[str]]:
    servers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "nameserver":
            servers.append(rest.strip())
        elif word in ("search", "domain"):
            searches = rest.split()
        elif word == "options":
            options += rest.split()
    return servers, searches, options


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""
