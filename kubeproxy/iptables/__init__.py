"""The iptables back end: names, rules as text, and how they get into the kernel."""
