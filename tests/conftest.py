"""Settings of all tests."""

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_tests(tmp_path_factory):
    """Keep what tests decode and download out of the user's own cache folder."""
    before = os.environ.get("WORLDMODEL_CACHE")
    os.environ["WORLDMODEL_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["WORLDMODEL_CACHE"]
    else:
        os.environ["WORLDMODEL_CACHE"] = before
