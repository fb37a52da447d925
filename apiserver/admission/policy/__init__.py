"""Admission policies in CEL; see ARCHITECTURE.md."""
