"""For all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# How fast inputs are made says something about the machine only.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")
