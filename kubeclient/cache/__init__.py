"""Local, read-only copies of what an API server holds. See ARCHITECTURE.md."""
