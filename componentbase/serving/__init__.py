"""HTTP serving for every component: see ``http_server.py``."""
