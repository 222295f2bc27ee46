"""The GPU of these tests is pretended (tests/support/pretended_cuda)."""

import pytest
from pretended_cuda import UnavailableError, pretended_cuda


@pytest.fixture
def cuda():
    """While the test runs, `cuda:0` exists; `waits` counts what its host waits for."""
    try:
        with pretended_cuda() as pretence:
            yield pretence
    except UnavailableError as reason:
        pytest.skip(str(reason))
