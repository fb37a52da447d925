"""Scales workloads by their metrics (pkg/controller/podautoscaler)."""
