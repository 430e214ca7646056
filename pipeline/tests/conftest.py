"""Property tests run as fast as the machine lets them: a busy one must not fail them by time."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("ezadmin", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ezadmin")
