"""What all tests share."""

from __future__ import annotations

import os

from hypothesis import settings

# Time is never asserted, not of an example either. In CI the examples are the same each time; elsewhere they go on exploring.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

LONGEST_ID = 60  # characters


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name parameters that are random, binary or long after their argument, so that every process collects the same names."""
    if isinstance(val, bytes) or (isinstance(val, str) and (len(val) > LONGEST_ID or not val.isprintable())):
        return argname
    if isinstance(val, str) and val.startswith(("kf", "eyJ")):
        return argname
    return None
