"""Each copied table as a Prefect asset, materialised with what the run did to it."""

from urllib.parse import quote

from prefect.assets import Asset, AssetProperties, add_asset_metadata
from prefect.context import AssetContext

from flows.harmless import harmless
from igh_sync_core.config import Config
from igh_sync_core.config.entities import EntityConfig
from igh_sync_core.report import EntityReport
from igh_sync_core.store.engines import url_of

UNKNOWN = Asset(key="sql://unknown/table")
"""Stands where the table is not known yet; every run names its own."""


def table_asset(config: Config, entity: EntityConfig) -> Asset:
    """The table of *entity*, named by its place: ``postgresql://host:5432/copy/accounts``; no user, no password."""
    url = url_of(config)
    server = f"{url.host or ''}:{url.port}" if url.port else url.host or ""
    place = quote(f"{server}/{(url.database or '').lstrip('/')}", safe="/:.-_~").replace("%", "~")
    description = entity.description or f"{entity.name} of {config.origin}, with history"
    return Asset(
        key=f"{url.get_backend_name()}://{place}/{entity.api_name}",
        properties=AssetProperties(name=entity.api_name, description=description),
    )


@harmless
def describe_asset(report: EntityReport) -> None:
    """Put the counts of this run on the materialisation of the entity's table, if this task makes it."""
    context = AssetContext.get()
    for asset in context.downstream_assets if context else ():
        if asset.properties and asset.properties.name == report.table:
            counts = {name: getattr(report, name) for name in ("added", "updated", "closed", "unchanged")}
            add_asset_metadata(asset, {"status": report.status, "strategy": report.strategy, **counts})
