"""Blocks: how they look to Prefect, what they hand to the core, and that they keep their secrets."""

import shutil
import tomllib
import traceback
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import httpx
import pytest
import trustme
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites import BlockStandardTestSuite
from prefect_processes import ROOT, PrefectServer
from pydantic import SecretStr, ValidationError

from flows.blocks import DataverseCredentials, SyncDatabase
from flows.order import Order
from flows.saving import save_blocks
from igh_sync_core.config import load_config
from igh_sync_core.errors import ConfigError
from igh_sync_core.sandbox import Server

SECRET = "s3cret~value"


class TestStandards(BlockStandardTestSuite):
    @pytest.fixture(params=[DataverseCredentials, SyncDatabase])
    def block(self, request: pytest.FixtureRequest) -> type[Block]:
        kind: type[Block] = request.param
        return kind

    def test_has_a_valid_image(self, block: type[Block]) -> None:
        """The suite's own test asks the network for the picture; the file name tells its size."""
        assert str(block._logo_url).startswith("https://cdn.sanity.io/")  # noqa: SLF001 - Prefect's name for it
        assert str(block._logo_url).endswith("-250x250.png")  # noqa: SLF001 - as above


def credentials_for(server: Server, **changes: str) -> DataverseCredentials:
    values = {
        "api_url": server.api_url,
        "client_id": server.client_id,
        "client_secret": server.client_secret,
        "authority": server.api_url,
        "ca_file": str(server.ca_file),
    }
    return DataverseCredentials.model_validate(values | changes)


def test_prefect_finds_the_blocks_by_the_entry_point() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    module = import_module(project["entry-points"]["prefect.collections"]["igh_sync"])

    assert {module.DataverseCredentials, module.SyncDatabase} == {DataverseCredentials, SyncDatabase}


def test_check_tells_good_credentials_from_bad_ones_in_one_line(dataverse: Server) -> None:
    good = credentials_for(dataverse).check()
    bad = credentials_for(dataverse, client_secret="not-it").check()

    assert good.startswith("the credentials work: ")
    assert bad.startswith("the credentials do not work: ")
    assert "AADSTS7000215" in bad
    assert "\n" not in good + bad
    assert "not-it" not in bad


def test_check_names_every_fault_of_the_values() -> None:
    block = DataverseCredentials(api_url="ftp://org", client_id="")

    text = block.check()

    assert "DATAVERSE_API_URL" in text
    assert "DATAVERSE_CLIENT_ID" in text


def test_get_client_asks_the_environment(dataverse: Server) -> None:
    with credentials_for(dataverse).get_client() as client:
        reply = client.channel("test").get(f"{client.config.api_root}WhoAmI")

    assert reply.status == 200


def test_a_certificate_as_pem_text_logs_in(dataverse: Server) -> None:
    authority = trustme.CA(key_type=trustme.KeyType.RSA)
    pair = authority.issue_cert("sync.example", key_type=trustme.KeyType.RSA)
    dataverse.sandbox.login.accept_certificate(pair.cert_chain_pems[0].bytes())
    pem = pair.private_key_pem.bytes() + pair.cert_chain_pems[0].bytes()
    text = pem.decode().replace("\n", "")  # as a form's field of one line leaves it

    block = credentials_for(dataverse, client_secret="", certificate=text)

    assert block.check().startswith("the credentials work")
    assert text not in repr(block) + str(block.model_dump())


def test_values_not_given_are_not_filled_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAVERSE_TENANT_ID", "other.example")
    monkeypatch.setenv("POSTGRES_CONNECTION_STRING", "postgresql://someone@else/db")
    block = DataverseCredentials(
        api_url="https://org.crm.dynamics.com", client_id="app", client_secret=SecretStr("s3cret")
    )

    config = block.to_config(SyncDatabase(sqlite_path="copy.db"))

    assert config.tenant_id is None
    assert config.get_db_type() == "sqlite"
    assert config.sqlite_db_path == "copy.db"
    assert "s3cret" not in repr(block) + repr(config)


def test_a_database_needs_a_place() -> None:
    with pytest.raises(ValidationError, match="give a SQLite file or a PostgreSQL URL"):
        SyncDatabase()


def test_saved_settings_come_back_by_name(prefect_api: PrefectServer, dataverse: Server) -> None:
    config = load_config()
    save_blocks(config, "from-environment")

    order = Order("run", credentials="from-environment", database="from-environment")

    assert order.load_config() == config
    assert dataverse.client_secret.encode() not in (prefect_api.home / "prefect.db").read_bytes()


@pytest.mark.usefixtures("prefect_api", "dataverse")
def test_files_are_saved_so_that_they_are_found_from_any_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dataverse: Server
) -> None:
    shutil.copy(dataverse.ca_file, tmp_path / "ca.pem")
    monkeypatch.setenv("SQLITE_DB_PATH", "copies/../one.db")
    monkeypatch.setenv("DATAVERSE_CA_FILE", "ca.pem")
    (tmp_path / "copies").mkdir()
    save_blocks(load_config(), "anywhere")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    config = Order("run", credentials="anywhere", database="anywhere").load_config()

    assert config.sqlite_db_path == str(tmp_path / "copies" / ".." / "one.db")
    assert config.ca_file == str(tmp_path / "ca.pem")


@pytest.mark.usefixtures("prefect_api", "dataverse")
def test_a_run_reads_its_blocks_once_and_the_next_one_anew(tmp_path: Path) -> None:
    save_blocks(replace(load_config(), sqlite_db_path="one.db"), "moving")
    blocks = {"credentials": "moving", "database": "moving"}
    before = Order("first run", **blocks).load_config()
    save_blocks(replace(load_config(), sqlite_db_path="two.db"), "moving")

    assert before.sqlite_db_path == str(tmp_path / "one.db")
    assert Order("first run", **blocks, entities=("account",)).load_config() is before
    assert Order("second run", **blocks).load_config().sqlite_db_path == str(tmp_path / "two.db")


def test_a_missing_block_is_named_with_the_remedy(prefect_api: PrefectServer) -> None:
    assert prefect_api.api_url

    with pytest.raises(ConfigError) as caught:
        Order("run", credentials="nowhere").load_config()

    assert str(caught.value).startswith("no block dataverse-credentials/nowhere; save it first")
    assert "python -m flows.sync_dataverse --save-blocks nowhere" in str(caught.value)
    assert caught.value.__context__ is None  # which a run's log would show as a chain of tracebacks


@pytest.mark.parametrize(
    ("block", "values", "fault"),
    [
        (
            DataverseCredentials(api_url="https://org.crm.dynamics.com", client_id="x"),
            {"client_id": "x", "client_secret": SECRET},
            "api_url: Field required",
        ),
        (SyncDatabase(sqlite_path="copy.db"), {}, "give a SQLite file or a PostgreSQL URL"),
    ],
)
def test_a_block_with_wrong_contents_is_named_and_no_secret_shown(
    prefect_api: PrefectServer, block: Block, values: dict[str, str], fault: str
) -> None:
    """The server checks no contents: Prefect's form saves an empty database, its API anything."""
    document = block.save("incomplete", overwrite=True)
    changed = {"data": values, "merge_existing_data": False}
    httpx.patch(f"{prefect_api.api_url}/block_documents/{document}", json=changed).raise_for_status()
    kind = "credentials" if isinstance(block, DataverseCredentials) else "database"

    with pytest.raises(ConfigError) as caught:
        Order("run", **{kind: "incomplete"}).load_config()

    assert f"block {block.get_block_type_slug()}/incomplete: " in str(caught.value)
    assert fault in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_values_that_no_block_takes_are_not_repeated() -> None:
    with pytest.raises(ValidationError) as caught:
        DataverseCredentials.model_validate({"client_id": "x", "client_secret": SECRET})

    assert SECRET not in str(caught.value)
