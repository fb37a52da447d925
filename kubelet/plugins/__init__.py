"""Plugins of the kubelet: drivers of devices (DRA), device plugins, and how they register."""
