"""What is only shown may never make a run fail."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
log = logging.getLogger("igh_sync_core.flow")


def harmless(show: Callable[P, R]) -> Callable[P, R | None]:
    """Make *show* give None and log a warning where it would raise."""

    @wraps(show)
    def shown(*args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return show(*args, **kwargs)
        except Exception:  # the boundary between a run and its display
            log.warning("%s could not be shown", show.__name__, exc_info=True)
            return None

    return shown
