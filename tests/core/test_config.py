import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from hypothesis import given
from hypothesis import strategies as st

from igh_sync_core.addresses import is_under, origin_of
from igh_sync_core.certificate import read_certificate
from igh_sync_core.config import (
    SETTINGS,
    Config,
    EntityConfig,
    load_config,
    load_entities,
    load_entity_configs,
    load_optionsets_config,
    validate,
)
from igh_sync_core.errors import ConfigError

ORG = "https://org.crm.dynamics.com"
TENANT = "0f6d1cf4-2c14-4d3e-9a32-5b8c1d7a9e10"
SECRET = "s3cr3t~Value.${HOME}"
ENOUGH = {"DATAVERSE_API_URL": ORG, "DATAVERSE_CLIENT_ID": "app-1", "DATAVERSE_CLIENT_SECRET": SECRET}


@pytest.fixture(autouse=True)
def clean_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for setting in SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)
    monkeypatch.chdir(tmp_path)


def set_environment(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def faults_of(**changes: object) -> tuple[str, ...]:
    given: dict[str, object] = {"api_url": ORG, "client_id": "app-1", "client_secret": SECRET, "scope": ""}
    return validate(Config(**given | {"sqlite_db_path": "x.db"} | changes))  # type: ignore[arg-type]


def write_pair(folder: Path, *, password: bytes | None = None, pfx: bool = False, other_key: bool = False) -> Path:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    signer = rsa.generate_private_key(public_exponent=65537, key_size=2048) if other_key else key
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "igh-sync test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, signer.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(signer, hashes.SHA256())
    )
    lock = BestAvailableEncryption(password) if password else NoEncryption()
    if pfx:
        path = folder / "login.pfx"
        path.write_bytes(pkcs12.serialize_key_and_certificates(b"login", key, certificate, None, lock))
    else:
        path = folder / "login.pem"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)
        path.write_bytes(certificate.public_bytes(Encoding.PEM) + private)
    return path


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
            (
                {"postgres_connection_string": "host=h dbname=d password=hidden"},
                "POSTGRES_CONNECTION_STRING is malformed",
            ),
            (
                {"postgres_connection_string": "postgresql://u:hidden@h:port/d"},
                "POSTGRES_CONNECTION_STRING is malformed",
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
            {"postgres_connection_string": "postgresql:///copy?host=/tmp/socket", "sqlite_db_path": None},
            {"postgres_connection_string": "postgresql+psycopg://u:p%40@h:5432/copy"},
        ],
    )
    def test_good_values_have_no_faults(self, changes: dict[str, object]) -> None:
        assert faults_of(**changes) == ()

    def test_secret_and_certificate_exclude_each_other(self, tmp_path: Path) -> None:
        (found,) = faults_of(certificate_file=str(write_pair(tmp_path)))

        assert "are both set" in found

    def test_a_file_without_certificates_is_no_ca_file(self, tmp_path: Path) -> None:
        (tmp_path / "ca.pem").write_text("not PEM")

        (found,) = faults_of(ca_file=str(tmp_path / "ca.pem"))

        assert "holds no PEM certificate" in found

    def test_no_secret_is_in_the_repr(self) -> None:
        config = Config(ORG, "a", SECRET, "", None, "postgresql://u:hidden@h/d", certificate_password="also-hidden")

        assert not any(secret in repr(config) for secret in (SECRET, "hidden"))


class TestCertificate:
    @pytest.mark.parametrize("pfx", [False, True])
    @pytest.mark.parametrize("password", [None, b"open sesame"])
    def test_both_file_kinds_give_one_form(self, tmp_path: Path, *, pfx: bool, password: bytes | None) -> None:
        path = str(write_pair(tmp_path, pfx=pfx, password=password))

        pair = read_certificate(path, password.decode() if password else None)

        assert pair.private_key.startswith("-----BEGIN PRIVATE KEY-----")
        assert pair.public_certificate.startswith("-----BEGIN CERTIFICATE-----")
        assert pair.private_key not in repr(pair)
        assert (
            faults_of(client_secret="", certificate_file=path, certificate_password=password and password.decode())
            == ()
        )

    @pytest.mark.parametrize("pfx", [False, True])
    def test_a_wrong_password_is_a_fault_that_does_not_show_it(self, tmp_path: Path, *, pfx: bool) -> None:
        path = str(write_pair(tmp_path, pfx=pfx, password=b"right"))

        (found,) = faults_of(client_secret="", certificate_file=path, certificate_password="wrong-guess")

        assert "no usable private key" in found
        assert "wrong-guess" not in found

    def test_key_and_certificate_must_belong_together(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="no certificate for its private key"):
            read_certificate(str(write_pair(tmp_path, other_key=True)))

    def test_a_missing_file_is_a_fault(self) -> None:
        (found,) = faults_of(client_secret="", certificate_file="nowhere.pem")

        assert "nowhere.pem cannot be read" in found


class TestAddresses:
    @pytest.mark.parametrize(
        ("url", "root"),
        [
            (ORG, f"{ORG}/api/data/v9.2/"),
            (f"{ORG}/", f"{ORG}/api/data/v9.2/"),
            ("https://ORG.crm.dynamics.com:443/api/data/v9.1", f"{ORG}/api/data/v9.1/"),
            (f"{ORG}/api/data/v9.0/", f"{ORG}/api/data/v9.0/"),
            ("https://127.0.0.1:4443", "https://127.0.0.1:4443/api/data/v9.2/"),
            ("http://[::1]:8080", "http://[::1]:8080/api/data/v9.2/"),
        ],
    )
    def test_an_origin_and_an_api_root_are_both_taken(self, url: str, root: str) -> None:
        config = Config(url, "a", "b", "")

        assert config.api_root == root
        assert root.startswith(config.origin)
        assert config.scope == f"{config.origin}/.default"

    @pytest.mark.parametrize(
        "url",
        [
            "https://evil.example/api/data/v9.2/accounts",
            "http://org.crm.dynamics.com/api/data/v9.2/accounts",
            f"{ORG}:8443/api/data/v9.2/accounts",
            f"{ORG}/api/data/v9.1/accounts",
            f"{ORG}/api/data/v9.2/../v9.1/accounts",
            f"{ORG}/api/data/v9.2/%2e%2e/accounts",
            f"{ORG}/api/data/v9.2/..%2faccounts",
            f"{ORG}@evil.example/api/data/v9.2/accounts",
            "https://org.crm.dynamics.com@evil.example/api/data/v9.2/",
            "https://user@org.crm.dynamics.com/api/data/v9.2/",
            "/api/data/v9.2/accounts",
            "",
        ],
    )
    def test_nothing_outside_the_api_root_counts_as_under_it(self, url: str) -> None:
        assert not is_under(url, f"{ORG}/api/data/v9.2/")

    def test_host_case_and_the_default_port_make_no_other_origin(self) -> None:
        assert is_under("https://ORG.crm.dynamics.com:443/api/data/v9.2/accounts?$select=a", f"{ORG}/api/data/v9.2/")

    @given(st.text(max_size=40))
    def test_no_text_breaks_the_address_parser(self, text: str) -> None:
        assert origin_of(text) == origin_of(origin_of(text) or text)
        assert isinstance(faults_of(api_url=text), tuple)


class TestSettingsTable:
    def test_every_field_has_one_setting_and_a_meaning(self) -> None:
        fields = [setting.attribute for setting in SETTINGS]

        assert sorted(fields) == sorted(Config.__dataclass_fields__)
        assert all(setting.meaning and not setting.meaning.endswith(".") for setting in SETTINGS)


class TestEntityFiles:
    def write(self, folder: Path, content: object) -> str:
        path = folder / "entities.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    def test_the_package_brings_its_selection(self) -> None:
        configs = load_entity_configs()

        assert len(configs) == 26
        assert configs[0] == EntityConfig("vin_candidate", "vin_candidates")
        assert {entity.name for entity in configs if entity.filtered} >= {"account", "contact"}

    def test_the_plain_list_holds_the_same_tables(self) -> None:
        assert load_entities()[0] == {
            "name": "vin_candidate",
            "api_name": "vin_candidates",
            "filtered": False,
            "description": "",
        }
        assert len(load_entities()) == 26

    def test_every_field_of_the_file_arrives(self, tmp_path: Path) -> None:
        entry = {"name": "a", "api_name": "as", "filtered": True, "description": "d", "strategy": "snapshot"}

        assert load_entity_configs(self.write(tmp_path, {"entities": [entry]})) == [
            EntityConfig("a", "as", filtered=True, description="d", strategy="snapshot")
        ]

    def test_all_faults_come_at_once_with_their_positions(self, tmp_path: Path) -> None:
        entries = [
            {"name": "a", "api_name": "as"},
            {"name": "b"},
            {"name": "c", "api_name": 7, "filtered": "yes", "extra": 1},
            "d",
            {"name": "a", "api_name": "es; drop", "strategy": "guess"},
        ]

        with pytest.raises(ConfigError) as caught:
            load_entity_configs(self.write(tmp_path, {"entities": entries, "more": []}))

        assert [fault.split(": ", 1)[1] for fault in caught.value.faults] == [
            'unknown field "more"',
            'entity 2 (b): "api_name" is missing',
            'entity 3 (c): "api_name" must be text',
            'entity 3 (c): "filtered" must be true or false',
            'entity 3 (c): unknown field "extra"',
            "entity 4: must be an object",
            'entity 5 (a): "api_name" must be a name of letters, digits and underscores',
            'entity 5 (a): "strategy" must be one of delta, modifiedon, snapshot, related',
            '"name" a is given 2 times',
        ]

    @pytest.mark.parametrize("content", ["{", "[]", "{}", '{"entities": []}', '{"entities": {}}'])
    def test_a_file_of_another_shape_is_refused(self, tmp_path: Path, content: str) -> None:
        with pytest.raises(ConfigError, match=r"entities\.json: (is no JSON|needs a list)"):
            load_entity_configs(self.write(tmp_path, content))

    def test_a_missing_file_is_named(self) -> None:
        with pytest.raises(ConfigError, match=r"nowhere\.json: cannot be read"):
            load_entity_configs("nowhere.json")

    def test_option_sets_are_a_map_of_lists(self, tmp_path: Path) -> None:
        assert load_optionsets_config() == {}
        assert load_optionsets_config(self.write(tmp_path, {"a": ["x", "y"]})) == {"a": ["x", "y"]}
        with pytest.raises(ConfigError, match='"b" needs a list'):
            load_optionsets_config(self.write(tmp_path, {"a": ["x"], "b": "y"}))
        with pytest.raises(ConfigError, match="needs an object"):
            load_optionsets_config(self.write(tmp_path, []))
