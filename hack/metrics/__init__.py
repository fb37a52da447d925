"""Metric families of ours against upstream's: the same requests, then both ``/metrics``."""
