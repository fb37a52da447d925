"""CEL, the Common Expression Language, as Kubernetes speaks it: no dependency, no I/O."""
