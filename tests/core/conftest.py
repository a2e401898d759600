"""What the core's tests share beside the whole suite's."""

from collections.abc import Callable

import pytest
from copies import Copy, entities

from igh_sync_core.sandbox import Organisation


@pytest.fixture
def copy_of(organisation: Organisation, database_settings: dict[str, str]) -> Callable[..., Copy]:
    """Makes a copy of some tables of the module's own organisation, by their logical names."""
    return lambda *names: Copy(organisation, database_settings, entities(*names))
