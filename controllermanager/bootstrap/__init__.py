"""Controllers for joining nodes: bootstrap tokens and the signed cluster-info ConfigMap."""
