"""Encryption at rest: what is configured, the ciphers, and the store that applies them."""
