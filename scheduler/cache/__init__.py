"""See ARCHITECTURE.md, flow 3."""
