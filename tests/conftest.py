"""Hypothesis profiles: `ci` by default; `HYPOTHESIS_PROFILE=long` searches a hundred times further."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

pytest_plugins = ["redis_fixtures"]

CALM = [HealthCheck.too_slow, HealthCheck.data_too_large]
"""A shared machine is slow at times; that says nothing about the code under test."""

settings.register_profile(
    "ci",
    max_examples=60,
    stateful_step_count=40,
    derandomize=False,
    deadline=None,
    print_blob=True,
    suppress_health_check=CALM,
)
settings.register_profile(
    "long",
    settings.get_profile("ci"),
    max_examples=1_000,
    stateful_step_count=50,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
