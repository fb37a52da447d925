"""The same requests against upstream's kube-apiserver and ours; what differs is printed.

``objects/*.yaml`` and ``requests/*.yaml`` say what is asked, ``cases.py`` makes requests of them,
``client.py`` sends them, ``normal.py`` takes out of the answers what differs from run to run.
"""
