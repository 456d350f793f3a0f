"""How property tests search, and what no test process may have imported.

Property tests search the same examples each time by default, others each time with HYPOTHESIS_PROFILE=random.
"""

from __future__ import annotations

import os
import signal
import sys

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("random", print_blob=True, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # a shell's background job; what tests start would not hear Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Importing Locust replaces threads by greenlets, and the process hangs: Locust runs in processes of its own."""
    if "locust" in sys.modules:
        raise pytest.UsageError(
            "a test module imports locust, which patches the standard library; start a process instead"
        )
