"""The ConfigMaps that ``kubeadm join`` reads (``joining.py``): ``kubeadm-config``, what the cluster
is like, and ``kubelet-config``, what its kubelets start from.

Their texts are those that kubeadm itself writes for such a cluster, down to the fields that Go
writes without a value. There is no ``controlPlaneEndpoint``: a cluster here takes no second control
plane, and kubeadm says so.
"""

from __future__ import annotations

import hashlib
import ipaddress
from typing import TYPE_CHECKING

from pilothouse.componentbase.version import GIT_VERSION

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.cluster.config import ClusterConfig

NAMESPACE = "kube-system"
KUBEADM, KUBELET = "kubeadm-config", "kubelet-config"
_HASH = "kubeadm.kubernetes.io/component-config.hash"
_DNS_HOST = 10

_CLUSTER = """\
apiServer: {{}}
apiVersion: kubeadm.k8s.io/v1beta4
caCertificateValidityPeriod: 87600h0m0s
certificateValidityPeriod: 8760h0m0s
certificatesDir: /etc/kubernetes/pki
clusterName: {name}
controllerManager: {{}}
dns: {{}}
encryptionAlgorithm: RSA-2048
etcd:
  local:
    dataDir: /var/lib/etcd
imageRepository: registry.k8s.io
kind: ClusterConfiguration
kubernetesVersion: {version}
networking:
  dnsDomain: {domain}
  podSubnet: {pods}
  serviceSubnet: {services}
proxy: {{}}
scheduler: {{}}
"""
_KUBELET = """\
apiVersion: kubelet.config.k8s.io/v1beta1
authentication:
  anonymous:
    enabled: false
  webhook:
    cacheTTL: 0s
    enabled: true
  x509:
    clientCAFile: /etc/kubernetes/pki/ca.crt
authorization:
  mode: Webhook
  webhook:
    cacheAuthorizedTTL: 0s
    cacheUnauthorizedTTL: 0s
cgroupDriver: systemd
clusterDNS:
- {dns}
clusterDomain: {domain}
containerRuntimeEndpoint: ""
cpuManagerReconcilePeriod: 0s
crashLoopBackOff: {{}}
evictionPressureTransitionPeriod: 0s
fileCheckFrequency: 0s
healthzBindAddress: 127.0.0.1
healthzPort: 10248
httpCheckFrequency: 0s
imageMaximumGCAge: 0s
imageMinimumGCAge: 0s
kind: KubeletConfiguration
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: "0"
    text:
      infoBufferSize: "0"
  verbosity: 0
memorySwap: {{}}
nodeStatusReportFrequency: 0s
nodeStatusUpdateFrequency: 0s
rotateCertificates: true
runtimeRequestTimeout: 0s
shutdownGracePeriod: 0s
shutdownGracePeriodCriticalPods: 0s
staticPodPath: /etc/kubernetes/manifests
streamingConnectionIdleTimeout: 0s
syncFrequency: 0s
volumeStatsAggPeriod: 0s
"""


def config_maps(config: ClusterConfig) -> list[Obj]:
    """Of a cluster with this (resolved) configuration."""
    cluster = _CLUSTER.format(
        name=config.name, version=GIT_VERSION, domain=config.cluster_domain,
        pods=config.pod_cidr, services=config.service_cidr,
    )  # fmt: skip
    dns = ipaddress.ip_network(config.service_cidr)[_DNS_HOST]
    kubelet = _KUBELET.format(dns=dns, domain=config.cluster_domain)
    # kubeadm writes a signed one anew when it upgrades a cluster; others are the user's own.
    signature = f"sha256:{hashlib.sha256(kubelet.encode()).hexdigest()}"
    return [
        {
            "metadata": {"name": KUBEADM, "namespace": NAMESPACE},
            "data": {"ClusterConfiguration": cluster},
        },
        {
            "metadata": {
                "name": KUBELET,
                "namespace": NAMESPACE,
                "annotations": {_HASH: signature},
            },
            "data": {"kubelet": kubelet},
        },
    ]
