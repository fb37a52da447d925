"""Eviction of pods when their node runs out of memory, disk or processes."""
