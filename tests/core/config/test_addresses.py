import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_config import faults_of

from igh_sync_core.config import Config
from igh_sync_core.config.addresses import is_under, origin_of

ORG = "https://org.crm.dynamics.com"


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
