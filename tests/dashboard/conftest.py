"""One server for a module's tests."""

from collections.abc import Iterator

import pytest

from tests.dashboard.site import Site, running_site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The whole server on a fresh data folder."""
    with running_site(tmp_path_factory.mktemp("site")) as running:
        yield running
