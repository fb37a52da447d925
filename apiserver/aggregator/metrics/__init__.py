"""The resource metrics API, metrics.k8s.io: what metrics-server does as an add-on elsewhere."""
