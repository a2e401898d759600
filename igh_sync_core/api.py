"""The two doors for programs: ``run_sync`` for any orchestrator, ``run_sync_workflow`` for those who want the report.

Neither needs or imports Prefect, prints, or exits the process.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

from igh_sync_core.config import Config
from igh_sync_core.config.entities import EntityConfig, load_entity_configs
from igh_sync_core.sync.options import Options
from igh_sync_core.webapi.client import Client
from igh_sync_core.webapi.interruption import Interruption
from igh_sync_core.workflow import run_workflow

T = TypeVar("T")
_LOGGER: ContextVar[logging.Logger | None] = ContextVar("logger", default=None)
_IS_SERVED: ContextVar[bool] = ContextVar("is_served", default=False)
_TALKATIVE = (
    "httpx",
    "httpcore.connection",
    "httpcore.http11",
    "httpcore.proxy",
    "msal.application",
    "msal.authority",
    "msal.telemetry",
    "msal.token_cache",
)
"""Loggers of libraries that tell whole addresses, links and requests of login; a run keeps them quiet."""


async def run_sync(
    config: Config,
    entities_config: list[EntityConfig] | None = None,
    optionsets_config: dict[str, list[str]] | None = None,
    verify_reference: bool = False,  # noqa: FBT001, FBT002 - the signature that existing users call
    logger: logging.Logger | None = None,
) -> bool:
    """Bring the copy up to date; may be awaited in any event loop, and in several at once.

    Cancelled, by a timeout or an interrupt, it ends within about a second; the next run goes on from there.

    Args:
        config: Where from, as whom, and where to.
        entities_config: Tables to copy; None for the package's own selection.
        optionsets_config: Choice columns per entity where definitions may not be read; None for none.
        verify_reference: Whether to check every reference afterwards.
        logger: Receives the run's messages; None for silence.

    Returns:
        True on success; False on failed entities, validation errors or dangling references.

    Raises:
        ValueError: The config lacks a field or one is unusable; lists every fault.
        RuntimeError: The credentials are refused.
        SyncError: The environment or the database cannot be used at all.
    """
    interruption = Interruption()
    options = Options(
        optionsets=optionsets_config,
        verify_references=verify_reference,
        connect=partial(Client, interruption=interruption),
    )
    with forward_logs(logger):
        work = asyncio.to_thread(run_sync_workflow, config, entities_config, options=options)
        report = await _ended_with_us(asyncio.ensure_future(work), interruption)
    return bool(report["success"])


async def _ended_with_us(work: asyncio.Future[T], interruption: Interruption) -> T:
    """What *work* gives; where this is cancelled, so is it, and is waited for: it holds the database until its end.

    Who cancels a second time does not wait.
    """
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        work.add_done_callback(_note_failure)
        interruption.set()
        await asyncio.wait([work])
        raise


def _note_failure(work: asyncio.Future[Any]) -> None:
    """Take note of how it ended, or the loop would complain that nobody did."""
    if not work.cancelled():
        work.exception()


def run_sync_workflow(
    config: Config, entities_config: Sequence[EntityConfig] | None = None, *, options: Options | None = None
) -> dict[str, Any]:
    """One run, and its report as a mapping.

    Args:
        config: Where from, as whom, and where to.
        entities_config: Tables to copy; None for the package's own selection.
        options: How the run is done.

    Returns:
        ``success``, ``run_id``, ``total_added``, ``total_updated``, ``total_closed``, ``requests``,
        ``failed_entities`` (pairs of entity and error), ``validation_errors``, ``reference_errors``, ``notes``,
        ``entities``.

    Raises:
        SyncError: As ``workflow.run_workflow``.
    """
    entities = load_entity_configs() if entities_config is None else entities_config
    return run_workflow(config, entities, options or Options()).as_dict()


class _Forward(logging.Handler):
    """Hands the core's records to the logger of the run they were made in; of other runs it knows nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._runs = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Pass *record* on, if its run has a logger that wants it."""
        logger = _LOGGER.get()
        if logger is not None and logger.isEnabledFor(record.levelno):
            logger.handle(record)

    @contextmanager
    def serving(self, logger: logging.Logger | None) -> Iterator[None]:
        """While inside, records of this context, its threads included, go to *logger* and nowhere else."""
        tokens = _LOGGER.set(logger), _IS_SERVED.set(True)
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)
            _LOGGER.reset(tokens[0])
            _IS_SERVED.reset(tokens[1])

    def _count(self, change: int) -> None:
        """Several runs may be served at once; the last one to end leaves the core's logger as it was."""
        with self.lock or nullcontext():
            self._runs += change
            _CORE.propagate = not self._runs
            _CORE.setLevel(logging.INFO if self._runs else logging.NOTSET)


_CORE = logging.getLogger("igh_sync_core")
_FORWARD = _Forward()
forward_logs = _FORWARD.serving
"""Context manager that hands the core's log records of one run to a logger; orchestrators use it too."""


def _is_elsewhere(_record: logging.LogRecord) -> bool:
    """Whether a library's record comes from anything but a run of ours."""
    return not _IS_SERVED.get()


# Also keeps Python from printing the warnings of a logger that nobody configured.
_CORE.addHandler(_FORWARD)
for _name in _TALKATIVE:
    logging.getLogger(_name).addFilter(_is_elsewhere)
