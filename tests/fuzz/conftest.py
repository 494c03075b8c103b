"""How many cases fuzzers here run: few by default, `--fuzz=10000` or FUZZ_CASES=10000 for the long form."""

import os

import pytest

_SHORT = 200


def pytest_addoption(parser):
    parser.addoption("--fuzz", type=int, default=int(os.environ.get("FUZZ_CASES", _SHORT)), help="Cases a fuzzer.")


@pytest.fixture(scope="session")
def fuzz_cases(pytestconfig):
    """How many damaged files a fuzzer tries."""
    return pytestconfig.getoption("--fuzz", default=int(os.environ.get("FUZZ_CASES", _SHORT)))
