"""One admission plugin a file; see order.py."""
