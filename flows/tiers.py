"""The order of the entities: several at once, the filtered ones after those that point at them."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from prefect.assets import Asset
from prefect.futures import PrefectFuture, as_completed, wait

from flows import tasks
from flows.artifacts import RunProgress
from flows.assets import table_asset
from flows.order import Order
from flows.tries import RelatedFailed
from igh_sync_core import workflow
from igh_sync_core.config.entities import EntityConfig
from igh_sync_core.report import EntityReport
from igh_sync_core.sync.run import Run
from igh_sync_core.sync.tier import failed

ENDING_S = 20
"""Wait for tasks that are being ended: less than the half minute in which Prefect expects a cancelled run to end."""


@dataclass
class Tiers:
    """Submits the tasks of one run and collects their reports.

    Attributes:
        order: What every task is told.
        run: Holds the database; its client is that of all tasks in this process.
        progress: Shows how many entities have ended.
    """

    order: Order
    run: Run
    progress: RunProgress

    def sync(self, entities: Sequence[EntityConfig]) -> list[EntityReport]:
        """Sync everything; failed entities have a report like all others (law 9)."""
        first, filtered = workflow.tiers(entities)
        return [*self._sync_each(first), *self._sync_together(filtered)]

    @contextmanager
    def _awaited(self, running: Collection[PrefectFuture[Any]]) -> Iterator[None]:
        """Where this run is being ended, wait for its tasks, which do so, too: the database is held for them."""
        try:
            with self.run.client.interruptible():
                yield
        except Exception:
            raise
        except BaseException:
            wait(list(running), timeout=ENDING_S)
            raise

    def _sync_each(self, tier: Sequence[EntityConfig]) -> list[EntityReport]:
        """One task per entity, so many at once as ordered; reports in the order of the tier."""
        waiting = list(reversed(tier))
        running: dict[PrefectFuture[EntityReport], EntityConfig] = {}
        reports: dict[str, EntityReport] = {}
        with self._awaited(running):
            while waiting or running:
                while waiting and len(running) < self.order.concurrency:
                    entity = waiting.pop()
                    running[self._submit(entity)] = entity
                done = next(as_completed(list(running)))
                entity = running.pop(done)
                reports[entity.name] = _report_of(entity, done)
                self.progress.step(entity.name)
        return [reports[entity.name] for entity in tier]

    def _sync_together(self, tier: Sequence[EntityConfig]) -> list[EntityReport]:
        if not tier:
            return []
        what = ", ".join(entity.name for entity in tier)
        related = tasks.sync_related.with_options(assets=self._assets(tier))
        future = related.submit(what, self.order)
        with self._awaited([future]):
            result: Any = future.result(raise_on_failure=False)
        self.progress.step(what, len(tier))
        if isinstance(result, RelatedFailed):
            return result.reports
        if isinstance(result, BaseException):
            return [failed(entity, result) for entity in tier]
        return list(result)

    def _submit(self, entity: EntityConfig) -> PrefectFuture[EntityReport]:
        return tasks.sync_entity.with_options(assets=self._assets([entity])).submit(entity.name, self.order)

    def _assets(self, entities: Sequence[EntityConfig]) -> list[Asset]:
        return [table_asset(self.run.client.config, entity) for entity in entities]


def _report_of(entity: EntityConfig, future: PrefectFuture[EntityReport]) -> EntityReport:
    result: Any = future.result(raise_on_failure=False)
    return failed(entity, result) if isinstance(result, BaseException) else result
