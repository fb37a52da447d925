"""The kubelet's own API: see ``handler.py``."""
