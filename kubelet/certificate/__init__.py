"""How a kubelet comes by its certificates: TLS bootstrap, rotation (pkg/kubelet/certificate)."""
