"""Persistent volumes: ``compute`` decides what happens to a claim or a volume (pure), ``binder``
carries it out; ``local_path`` provisions, ``ephemeral`` makes pods' own claims, ``expand`` grows
volumes."""
