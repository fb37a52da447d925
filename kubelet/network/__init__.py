"""Pod and node networking over raw netlink; IPv4."""
