"""The small process of each node that owns its containers; standard library only."""
