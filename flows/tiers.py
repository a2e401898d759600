"""The order of the entities: several at once, the filtered ones after those that point at them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefect.assets import Asset
from prefect.futures import PrefectFuture, as_completed

from flows import tasks
from flows.artifacts import RunProgress
from flows.assets import table_asset
from flows.order import Order
from igh_sync_core import workflow
from igh_sync_core.config import Config
from igh_sync_core.config.entities import EntityConfig
from igh_sync_core.report import EntityReport
from igh_sync_core.sync.tier import failed


@dataclass
class Tiers:
    """Submits the tasks of one run and collects their reports.

    Attributes:
        order: What every task is told.
        config: Where the tables are, to name them.
        progress: Shows how many entities have ended.
    """

    order: Order
    config: Config
    progress: RunProgress

    def sync(self, entities: Sequence[EntityConfig]) -> list[EntityReport]:
        """Sync everything; failed entities have a report like all others (law 9)."""
        first, filtered = workflow.tiers(entities)
        return [*self._sync_each(first), *self._sync_together(filtered)]

    def _sync_each(self, tier: Sequence[EntityConfig]) -> list[EntityReport]:
        """One task per entity, so many at once as ordered; reports in the order of the tier."""
        waiting = list(reversed(tier))
        running: dict[PrefectFuture[EntityReport], EntityConfig] = {}
        reports: dict[str, EntityReport] = {}
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
        result: Any = related.submit(what, self.order).result(raise_on_failure=False)
        self.progress.step(what, len(tier))
        if isinstance(result, BaseException):
            return [failed(entity, result) for entity in tier]
        return list(result)

    def _submit(self, entity: EntityConfig) -> PrefectFuture[EntityReport]:
        return tasks.sync_entity.with_options(assets=self._assets([entity])).submit(entity.name, self.order)

    def _assets(self, entities: Sequence[EntityConfig]) -> list[Asset]:
        return [table_asset(self.config, entity) for entity in entities]


def _report_of(entity: EntityConfig, future: PrefectFuture[EntityReport]) -> EntityReport:
    result: Any = future.result(raise_on_failure=False)
    return failed(entity, result) if isinstance(result, BaseException) else result
