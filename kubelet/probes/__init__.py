"""Probes: results (pure), the prober (I/O) and the workers."""
