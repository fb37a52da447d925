"""Images: references, registries, unpacking and the store of one machine."""
