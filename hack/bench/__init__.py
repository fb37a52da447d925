"""``python -m hack.bench``: Pilothouse and the reference programs side by side on this machine.

``targets.py`` starts the programs, ``load.py`` is a process of its own that sends prebuilt
requests and reads the servers' CPU time, ``api_suite.py`` and ``cluster_suite.py`` say what is
measured, ``report.py`` makes tables of it. Nothing here ever fails a test; what can't run is
reported as such.
"""
