from pathlib import Path

import pytest
from pairs import write_pair

from igh_sync_core.config import SETTINGS, Config, load_config, validate
from igh_sync_core.config.settings import read_database
from igh_sync_core.errors import ConfigError

ORG = "https://org.crm.dynamics.com"
TENANT = "0f6d1cf4-2c14-4d3e-9a32-5b8c1d7a9e10"
SECRET = "s3cr3t~Value.${HOME}"
ENOUGH = {"DATAVERSE_API_URL": ORG, "DATAVERSE_CLIENT_ID": "app-1", "DATAVERSE_CLIENT_SECRET": SECRET}


def set_environment(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def faults_of(**changes: object) -> tuple[str, ...]:
    given: dict[str, object] = {"api_url": ORG, "client_id": "app-1", "client_secret": SECRET, "scope": ""}
    return validate(Config(**given | {"sqlite_db_path": "x.db"} | changes))  # type: ignore[arg-type]


def test_what_is_said_of_a_sign_that_no_setting_holds_is_right_of_any_source(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_environment(monkeypatch, **ENOUGH | {"DATAVERSE_CLIENT_ID": "app\t1"})
    with pytest.raises(ConfigError) as caught:
        load_config()
    [fault] = caught.value.faults

    told, where = fault.split(". ")
    assert told == "DATAVERSE_CLIENT_ID holds a line break, a tab or another such sign; take it out"
    assert where.startswith("In a file of settings, a backslash in double quotes ")


class TestPrecedence:
    def test_environment_alone_is_enough_and_defaults_fill_the_rest(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_environment(monkeypatch, **ENOUGH)

        config = load_config()

        assert config == Config(ORG, "app-1", SECRET, f"{ORG}/.default", "dataverse.db")
        assert config.get_db_type() == "sqlite"

    def test_a_named_file_wins_over_the_environment(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        set_environment(monkeypatch, **ENOUGH)
        (tmp_path / "other").write_text("DATAVERSE_CLIENT_ID=app-2\n")

        assert load_config(str(tmp_path / "other")).client_id == "app-2"

    @pytest.mark.parametrize("unset", ["POSTGRES_CONNECTION_STRING=\n", ""])
    def test_the_database_of_a_named_file_is_the_only_one(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unset: str
    ) -> None:
        set_environment(monkeypatch, **ENOUGH, POSTGRES_CONNECTION_STRING="postgresql://u:p@elsewhere/db")
        (tmp_path / "named").write_text(f"SQLITE_DB_PATH=prod.db\n{unset}")

        for config in (load_config("named"), read_database("named")[0]):
            assert (config.get_db_type(), config.sqlite_db_path) == ("sqlite", "prod.db")

    def test_the_sqlite_file_of_the_environment_is_none_of_a_named_postgresql(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        set_environment(monkeypatch, **ENOUGH, SQLITE_DB_PATH="elsewhere.db")
        (tmp_path / "named").write_text("POSTGRES_CONNECTION_STRING=postgresql://u:p@h/db\n")

        assert load_config("named").sqlite_db_path == "dataverse.db"

    def test_a_blank_in_a_named_file_unsets(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        set_environment(monkeypatch, **ENOUGH, DATAVERSE_TENANT_ID=TENANT, POSTGRES_CONNECTION_STRING="postgresql:///d")
        (tmp_path / "named").write_text('DATAVERSE_TENANT_ID=\nPOSTGRES_CONNECTION_STRING=""\n')

        config = load_config("named")

        assert (config.tenant_id, config.get_db_type(), config.client_id) == (None, "sqlite", "app-1")

    def test_a_named_file_without_a_database_leaves_that_of_the_environment(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        set_environment(monkeypatch, **ENOUGH, POSTGRES_CONNECTION_STRING="postgresql://u:p@h/db")
        (tmp_path / "named").write_text("DATAVERSE_CLIENT_ID=app-2\n")

        assert load_config("named").get_db_type() == "postgresql"

    def test_the_dotenv_of_the_working_directory_fills_gaps_only(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        set_environment(monkeypatch, **ENOUGH)
        (tmp_path / ".env").write_text("DATAVERSE_CLIENT_ID=app-2\nSQLITE_DB_PATH=bronze.db\n")

        config = load_config()

        assert (config.client_id, config.sqlite_db_path) == ("app-1", "bronze.db")

    def test_a_blank_setting_counts_as_not_given(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        set_environment(monkeypatch, **ENOUGH, SQLITE_DB_PATH=" ")
        (tmp_path / ".env").write_text("SQLITE_DB_PATH=bronze.db\n")

        assert load_config().sqlite_db_path == "bronze.db"

    def test_file_values_are_literal_and_a_byte_order_mark_is_no_part_of_them(self, tmp_path: Path) -> None:
        lines = "".join(f"{name}={value}\n" for name, value in ENOUGH.items())
        (tmp_path / "windows.env").write_text(lines, encoding="utf-8-sig")

        config = load_config("windows.env")

        assert (config.api_url, config.client_secret) == (ORG, SECRET)

    def test_values_given_by_field_win_over_everything(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        set_environment(monkeypatch, **ENOUGH, DATAVERSE_TENANT_ID=TENANT)
        (tmp_path / "named").write_text("DATAVERSE_CLIENT_ID=app-2\n")

        config = load_config(str(tmp_path / "named"), given={"client_id": "app-3", "tenant_id": ""})

        assert (config.client_id, config.tenant_id) == ("app-3", None)

    def test_a_named_file_must_exist(self) -> None:
        with pytest.raises(ConfigError, match=r"--env-file nowhere\.env: cannot be read"):
            load_config("nowhere.env")

    def test_postgresql_wins_when_both_are_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_environment(monkeypatch, **ENOUGH, POSTGRES_CONNECTION_STRING="postgresql://u:p@h/db")

        config = load_config()

        assert (config.get_db_type(), config.sqlite_db_path) == ("postgresql", "dataverse.db")


class TestFaults:
    def test_all_faults_come_at_once_and_the_error_is_a_value_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_environment(
            monkeypatch,
            DATAVERSE_API_URL="http://org.crm.dynamics.com",
            DATAVERSE_TENANT_ID="common",
            DATAVERSE_CA_FILE="nowhere.pem",
            POSTGRES_CONNECTION_STRING="mysql://u:hidden@h/db",
        )

        with pytest.raises(ValueError, match="DATAVERSE_API_URL") as caught:
            load_config()

        assert isinstance(caught.value, ConfigError)
        assert [fault.split(" ")[0] for fault in caught.value.faults] == [
            "DATAVERSE_API_URL",
            "DATAVERSE_CLIENT_ID",
            "DATAVERSE_CLIENT_SECRET",
            "DATAVERSE_TENANT_ID",
            "DATAVERSE_CA_FILE",
            "POSTGRES_CONNECTION_STRING",
        ]
        assert "hidden" not in str(caught.value)

    @pytest.mark.parametrize(
        ("url", "fault"),
        [
            ("org.crm.dynamics.com", "is no address"),
            ("https://[broken", "is no address"),
            ("https://org:port", "is no address"),
            ("ftp://org.crm.dynamics.com", "is no address"),
            ("http://org.crm.dynamics.com", "must begin with https"),
            ("https://me:pw@org.crm.dynamics.com", "must not hold a user"),
            ("https://org.crm.dynamics.com/?x=1", "must end before"),
            ("https://org.crm.dynamics.com/main.aspx", "has a path that does not belong"),
            ("https://org.crm.dynamics.com/api/data/v9.2/accounts", "has a path that does not belong"),
        ],
    )
    def test_a_malformed_address_is_refused_without_showing_what_it_holds(self, url: str, fault: str) -> None:
        (found,) = faults_of(api_url=url, scope="api/.default")

        assert f"DATAVERSE_API_URL {fault}" in found
        assert "pw" not in found

    @pytest.mark.parametrize(
        "url", ["http://localhost:8443", "http://127.0.0.1:8080/", "http://[::1]:80/api/data/v9.1"]
    )
    def test_plain_http_is_for_loopback_only(self, url: str) -> None:
        assert faults_of(api_url=url) == ()

    @pytest.mark.parametrize(
        ("changes", "fault"),
        [
            ({"client_secret": "", "certificate_file": None}, "DATAVERSE_CLIENT_SECRET is missing"),
            ({"certificate_password": "x"}, "DATAVERSE_CERTIFICATE_PASSWORD is set without"),
            ({"scope": ORG}, "DATAVERSE_SCOPE must end with"),
            ({"authority": "http://localhost:1"}, "DATAVERSE_AUTHORITY must begin with https"),
            ({"authority": "https://login.microsoftonline.com/common"}, "DATAVERSE_AUTHORITY has a path"),
            (
                {"authority": f"https://login.microsoftonline.com/{TENANT}", "tenant_id": "a.org"},
                "names another tenant",
            ),
            ({"sqlite_db_path": None}, "SQLITE_DB_PATH is missing"),
            ({"sqlite_db_path": ":memory:"}, "SQLITE_DB_PATH :memory: is no file; give the path of one"),
            (
                {"postgres_connection_string": "host=h dbname=d password=hidden"},
                "POSTGRES_CONNECTION_STRING is malformed",
            ),
            (
                {"postgres_connection_string": "postgresql://u:hidden@h:port/d"},
                "POSTGRES_CONNECTION_STRING is malformed",
            ),
            (
                {"postgres_connection_string": "postgresql://u:aB@x?hidden=1@h/d"},
                "POSTGRES_CONNECTION_STRING is malformed",
            ),
            (
                {"postgres_connection_string": "postgresql://u:aB@x?hidden@h/d"},
                "POSTGRES_CONNECTION_STRING is malformed",
            ),
            (
                {"postgres_connection_string": "postgresql://u:hidden@h/d?sslmode=require&schema=bronze"},
                "POSTGRES_CONNECTION_STRING: schema is no parameter",
            ),
            (
                {"postgres_connection_string": "postgresql://u:hidden@h/d?prepare_threshold=0"},
                "POSTGRES_CONNECTION_STRING: prepare_threshold is no parameter",
            ),
        ],
    )
    def test_a_configuration_made_by_hand_can_be_checked(self, changes: dict[str, object], fault: str) -> None:
        (found,) = faults_of(**changes)

        assert fault in found
        assert "hidden" not in found

    @pytest.mark.parametrize(
        "changes",
        [
            {"tenant_id": TENANT},
            {"tenant_id": "health.onmicrosoft.com"},
            {"authority": "https://localhost:4443"},
            {"authority": f"https://login.microsoftonline.us/{TENANT}/", "tenant_id": TENANT},
            {"authority": f"https://login.microsoftonline.com/{TENANT}", "tenant_id": TENANT.upper()},
            {
                "authority": "https://login.microsoftonline.com/Health.onmicrosoft.com",
                "tenant_id": "health.ONMICROSOFT.com",
            },
            {"postgres_connection_string": "postgresql:///copy?host=/tmp/socket", "sqlite_db_path": None},
            {"postgres_connection_string": "postgresql+psycopg://u:p%40@h:5432/copy"},
        ],
    )
    def test_good_values_have_no_faults(self, changes: dict[str, object]) -> None:
        assert faults_of(**changes) == ()

    def test_secret_and_certificate_exclude_each_other(self, tmp_path: Path) -> None:
        (found,) = faults_of(certificate_file=str(write_pair(tmp_path)))

        assert "are both set" in found

    def test_a_file_in_the_home_folder_may_be_named_by_a_tilde(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        (tmp_path / "home").mkdir()
        pair = write_pair(tmp_path / "home")
        set_environment(monkeypatch, DATAVERSE_API_URL=ORG, DATAVERSE_CLIENT_ID="app-1")
        for name in ("DATAVERSE_CERTIFICATE_FILE", "DATAVERSE_CA_FILE"):
            monkeypatch.setenv(name, f"~/{pair.name}")

        config = load_config()

        assert (config.certificate_file, config.ca_file) == (str(pair), str(pair))
        assert Config(ORG, "app-1", "", "", ca_file="~nobody-here/x.pem").ca_file == "~nobody-here/x.pem"

    def test_a_file_without_certificates_is_no_ca_file(self, tmp_path: Path) -> None:
        (tmp_path / "ca.pem").write_text("not PEM")

        (found,) = faults_of(ca_file=str(tmp_path / "ca.pem"))

        assert "holds no PEM certificate" in found

    def test_no_secret_is_in_the_repr(self) -> None:
        config = Config(ORG, "a", SECRET, "", None, "postgresql://u:hidden@h/d", certificate_password="also-hidden")

        assert not any(secret in repr(config) for secret in (SECRET, "hidden"))


class TestMisspeltNames:
    @pytest.mark.parametrize(
        ("wrong", "meant"),
        [
            ("POSTGRES_CONECTION_STRING", "POSTGRES_CONNECTION_STRING"),
            ("SQLITE_DB_PTH", "SQLITE_DB_PATH"),
            ("DATAVERSE_TENANTID", "DATAVERSE_TENANT_ID"),
        ],
    )
    @pytest.mark.parametrize("where", ["the environment", ".env", "a named file"])
    def test_a_name_that_nearly_is_a_setting_is_a_fault(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: str, meant: str, where: str
    ) -> None:
        set_environment(monkeypatch, **ENOUGH)
        if where == "the environment":
            monkeypatch.setenv(wrong, "some value")
        else:
            (tmp_path / ".env").write_text(f"{wrong}=some value\n")

        with pytest.raises(ConfigError) as caught:
            load_config(".env" if where == "a named file" else None)

        assert caught.value.faults == (f"{wrong} is no setting; did you mean {meant}?",)

    def test_it_stands_with_the_other_faults(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text(f"DATAVERSE_API_URL={ORG}\nDATAVERSE_CLIENT_SECERT={SECRET}\n")

        with pytest.raises(ConfigError) as caught:
            load_config()

        misspelt, *others = caught.value.faults
        assert misspelt == "DATAVERSE_CLIENT_SECERT is no setting; did you mean DATAVERSE_CLIENT_SECRET?"
        assert [fault.split(" ")[0] for fault in others] == ["DATAVERSE_CLIENT_ID", "DATAVERSE_CLIENT_SECRET"]

    def test_names_of_other_programs_and_blank_ones_are_ignored(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        set_environment(monkeypatch, **ENOUGH, POSTGRES_PASSWORD="x", DATAVERSE_CAPTURES="x", POSTGRES_CONNECTION="x")
        (tmp_path / ".env").write_text("X_OLD=x\nSQLITE_TMPDIR=x\nXSQLITE_DB_PATH=x\nSQLITE_DB_PTH=\n")

        assert load_config().sqlite_db_path == "dataverse.db"

    def test_it_is_none_where_the_setting_meant_is_given(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        set_environment(monkeypatch, **ENOUGH, SQLITE_DB_PTH="old.db", POSTGRES_CONECTION_STRING="x")
        (tmp_path / ".env").write_text("SQLITE_DB_PATH=bronze.db\n")

        config = load_config(given={"postgres_connection_string": ""})

        assert (config.sqlite_db_path, config.get_db_type()) == ("bronze.db", "sqlite")


class TestSettingsTable:
    def test_every_field_has_one_setting_and_a_meaning(self) -> None:
        fields = [setting.attribute for setting in SETTINGS]

        assert sorted(fields) == sorted(Config.__dataclass_fields__)
        assert all(setting.meaning and not setting.meaning.endswith(".") for setting in SETTINGS)
