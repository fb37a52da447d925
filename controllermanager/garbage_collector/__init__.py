"""Deletes what its owners left behind: ``graph`` (pure), ``graph_builder``, ``collector``."""
