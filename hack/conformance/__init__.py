"""Official conformance tests on a cluster of our own: run.sh makes docs/conformance.md."""
