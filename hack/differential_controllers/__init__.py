"""The same scenarios under upstream's controllers and scheduler and under ours; what differs is
printed.

``scenarios/*.yaml`` say what happens, ``steps.py`` does it (and plays kubelet), ``worlds.py`` are
the two control planes, ``normal.py`` takes out of what is seen what differs from run to run.
"""
