"""The aggregation layer: group versions that other API servers answer for (kube-aggregator)."""
