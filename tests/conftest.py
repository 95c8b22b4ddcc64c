"""Hypothesis profiles: `ci` by default; `HYPOTHESIS_PROFILE=long` searches much further; `mutation` is for mutmut."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

os.environ.setdefault("BANHAMMER_LOAD_PLUGINS", "")  # Whatever is installed here, tests meet the built-in ones.

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
settings.register_profile(
    "mutation",
    settings.get_profile("ci"),
    derandomize=True,  # Each mutant meets the same examples, in every run.
    phases=(Phase.explicit, Phase.generate),  # That it fails is enough: the least example is not looked for.
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
