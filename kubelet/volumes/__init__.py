"""Volumes: one file a source, put together by manager.py."""
