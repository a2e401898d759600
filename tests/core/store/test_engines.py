"""Where a SQLite file may lie, and what is said of one that cannot be there."""

from pathlib import Path

import pytest

from igh_sync_core.config import Config
from igh_sync_core.errors import ConfigError, StoreUnavailable
from igh_sync_core.store.database import Database


def at(path: Path) -> Config:
    return Config("https://org.crm.dynamics.com", "", "", "", str(path))


def test_a_link_into_a_missing_folder_is_refused_at_once(tmp_path: Path) -> None:
    link, target = tmp_path / "copy.db", tmp_path / "gone" / "copy.db"
    link.symlink_to(target)

    with pytest.raises(ConfigError, match=f"SQLITE_DB_PATH: {link} is a link to {target}, which lies in a folder that"):
        Database(at(link))


def test_a_link_to_a_file_that_can_be_made_is_followed(tmp_path: Path) -> None:
    link, target = tmp_path / "copy.db", tmp_path / "other.db"
    link.symlink_to(target)

    with Database(at(link)).connection():
        assert target.exists()


def test_a_file_that_the_system_does_not_let_be_made_is_named_with_its_setting() -> None:
    with (
        pytest.raises(ConfigError, match=r"SQLITE_DB_PATH: /proc/copy\.db .*; name another file"),
        Database(at(Path("/proc/copy.db"))).connection(),
    ):
        pass


def test_a_file_that_cannot_be_opened_for_now_is_named(tmp_path: Path) -> None:
    path = tmp_path / "copy.db"
    database = Database(at(path))
    path.mkdir()  # after it was looked at

    with pytest.raises(StoreUnavailable, match=f"{path}: unable to open database file"), database.connection():
        pass
