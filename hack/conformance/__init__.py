"""Official conformance tests against a cluster of our own: build.sh -> run.py -> docs/conformance.md."""
