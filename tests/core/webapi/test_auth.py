import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import httpx
import msal
import pytest
from pairs import write_pair
from wires import LOGIN, ORG, ROOT, SECRET, TENANT, Entra, config

from igh_sync_core.config import Config
from igh_sync_core.errors import AuthError, ProtocolViolation, SourceUnavailable, SyncError
from igh_sync_core.webapi.auth import LOGIN_HOSTS, DataverseAuth


def http_for(entra: Entra) -> httpx.Client:
    return httpx.Client(transport=httpx.MockTransport(entra))


def ask(entra: Entra, settings: Config, url: str = f"{ROOT}WhoAmI") -> httpx.Response:
    with http_for(entra) as http:
        return http.get(url, auth=DataverseAuth(settings, http))


def failure(entra: Entra, settings: Config, url: str = f"{ROOT}WhoAmI") -> SyncError:
    with pytest.raises(SyncError) as caught:
        ask(entra, settings, url)
    assert SECRET not in str(caught.value)
    return caught.value


class TestLogin:
    def test_the_tenant_is_found_from_the_challenge_and_the_form_is_as_documented(self) -> None:
        entra = Entra()

        assert ask(entra, config()).status_code == 200

        (form,) = entra.forms
        wanted = {
            "client_id": "app-1",
            "client_secret": SECRET,
            "grant_type": "client_credentials",
            "scope": f"{ORG}/.default",
        }
        assert wanted.items() <= form.items()
        assert entra.hosts == ["org.crm.dynamics.com", LOGIN, LOGIN, "org.crm.dynamics.com"]

    @pytest.mark.parametrize(
        "settings",
        [
            config(authority=f"https://{LOGIN}/{TENANT}"),
            config(authority=f"https://{LOGIN}", tenant_id=TENANT),
        ],
    )
    def test_a_configured_login_needs_no_challenge(self, settings: Config) -> None:
        entra = Entra()

        assert ask(entra, settings).status_code == 200

        assert entra.hosts == [LOGIN, LOGIN, "org.crm.dynamics.com"]

    def test_a_private_login_host_is_taken_when_configured(self) -> None:
        entra = Entra(login="localhost:4443")

        assert ask(entra, config(authority="https://localhost:4443")).status_code == 200
        assert entra.tokens == ["token-1"]

    def test_no_unknown_login_host_gets_the_secret(self) -> None:
        entra = Entra(login="login.evil.example")

        error = failure(entra, config())

        assert isinstance(error, AuthError)
        assert "login.evil.example, which is no known Microsoft login host; set DATAVERSE_AUTHORITY" in str(error)
        assert entra.hosts == ["org.crm.dynamics.com"]

    def test_the_hosts_that_microsofts_own_library_knows_are_known(self) -> None:
        assert msal.authority.WELL_KNOWN_AUTHORITY_HOSTS <= LOGIN_HOSTS

    @pytest.mark.parametrize("host", ["login.microsoftonline.com:444", "login.microsoftonline.com.evil.example"])
    def test_a_host_that_looks_known_is_not(self, host: str) -> None:
        assert host not in LOGIN_HOSTS
        assert "no known Microsoft login host" in str(failure(Entra(login=host), config()))

    def test_a_challenge_without_a_tenant_asks_for_the_setting(self) -> None:
        entra = Entra()
        entra.challenge = f"Bearer authorization_uri=https://{LOGIN}/common/oauth2/authorize, resource_id=x"

        assert "set DATAVERSE_TENANT_ID" in str(failure(entra, config()))

    @pytest.mark.parametrize("pfx", [False, True])
    def test_a_certificate_signs_in_with_its_sha256_thumbprint(self, tmp_path: Path, *, pfx: bool) -> None:
        path = write_pair(tmp_path, pfx=pfx, password=b"pw")
        entra = Entra()

        settings = config(client_secret="", certificate_file=str(path), certificate_password="pw")
        assert ask(entra, settings).status_code == 200

        (form,) = entra.forms
        header, claims, _ = form["client_assertion"].split(".")
        decoded = [json.loads(base64.urlsafe_b64decode(part + "==")) for part in (header, claims)]

        assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        assert decoded[0]["alg"] == "PS256"
        assert decoded[0]["x5t#S256"]
        assert (decoded[1]["iss"], decoded[1]["aud"]) == ("app-1", f"https://{LOGIN}/{TENANT}/oauth2/v2.0/token")
        assert "client_secret" not in form


class TestTokens:
    def test_twenty_six_threads_make_one_token_request(self) -> None:
        entra = Entra()
        with http_for(entra) as http, ThreadPoolExecutor(26) as pool:
            auth = DataverseAuth(config(), http)
            replies = list(pool.map(lambda _: http.get(f"{ROOT}WhoAmI", auth=auth), range(26)))

        assert [reply.status_code for reply in replies] == [200] * 26
        assert len(entra.tokens) == 1

    def test_a_token_refused_in_mid_run_is_renewed_once_for_all_threads(self) -> None:
        entra = Entra()
        with http_for(entra) as http, ThreadPoolExecutor(26) as pool:
            auth = DataverseAuth(config(), http)
            http.get(f"{ROOT}WhoAmI", auth=auth)
            entra.revoke()
            entra.together = Barrier(26)
            replies = list(pool.map(lambda _: http.get(f"{ROOT}WhoAmI", auth=auth), range(26)))

        assert [reply.status_code for reply in replies] == [200] * 26
        assert len(entra.tokens) == 2

    def test_a_token_refused_twice_is_not_tried_for_ever(self) -> None:
        entra = Entra(lambda _: httpx.Response(401, text="no"))

        assert ask(entra, config()).status_code == 401
        assert len(entra.tokens) == 2

    def test_a_token_near_its_end_is_renewed_before_it_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[str] = []

        def note(request: httpx.Request) -> httpx.Response:
            seen.append(request.headers["Authorization"])
            return httpx.Response(200)

        entra = Entra(note)
        start = time.time()
        with http_for(entra) as http:
            auth = DataverseAuth(config(), http)
            for passed_s in (0, 3_000, 3_400):
                monkeypatch.setattr(time, "time", lambda passed_s=passed_s: start + passed_s)
                http.get(f"{ROOT}WhoAmI", auth=auth)

        assert seen == ["Bearer token-1", "Bearer token-1", "Bearer token-2"]

    def test_the_seconds_left_may_come_as_text(self) -> None:
        entra = Entra()
        entra.expires_in = "3599"

        assert ask(entra, config()).status_code == 200

    def test_msal_is_asked_once_a_minute(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[float] = []
        acquire = msal.ConfidentialClientApplication.acquire_token_for_client

        def counting(*arguments: Any, **options: Any) -> Any:
            asked.append(time.time())
            return acquire(*arguments, **options)

        monkeypatch.setattr(msal.ConfidentialClientApplication, "acquire_token_for_client", counting)
        start = time.time()
        with http_for(Entra()) as http:
            auth = DataverseAuth(config(), http)
            for passed_s in (0, 1, 59, 61, 62):
                monkeypatch.setattr(time, "time", lambda passed_s=passed_s: start + passed_s)
                http.get(f"{ROOT}WhoAmI", auth=auth)

        assert [round(each - start) for each in asked] == [0, 61]

    @pytest.mark.parametrize(
        "url", ["https://evil.example/api/data/v9.2/x", "http://org.crm.dynamics.com/", f"{ORG}:8443/"]
    )
    def test_the_token_goes_to_the_configured_origin_only(self, url: str) -> None:
        entra = Entra()

        assert isinstance(failure(entra, config(), url), ProtocolViolation)
        assert entra.hosts == []


class TestRefusals:
    @pytest.mark.parametrize(
        ("description", "code", "remedy"),
        [
            (
                f"AADSTS7000215: Invalid client secret {SECRET} provided.\r\nTrace ID: 1",
                "AADSTS7000215",
                "not to its id",
            ),
            ("AADSTS7000222: The provided client secret keys are expired.", "AADSTS7000222", "make a new one"),
            ("AADSTS700016: Application with identifier 'app-1' was not found.", "AADSTS700016", "DATAVERSE_CLIENT_ID"),
            ("AADSTS500011: The resource principal was not found.", "AADSTS500011", "DATAVERSE_API_URL"),
            ("AADSTS999999: Something new.", "AADSTS999999", "check client id, secret, tenant and scope"),
            ("", "", "check client id, secret, tenant and scope"),
        ],
    )
    def test_each_code_has_its_remedy_and_no_answer_shows_the_secret(
        self, description: str, code: str, remedy: str
    ) -> None:
        entra = Entra()
        entra.refusal = httpx.Response(401, json={"error": "invalid_client", "error_description": description})

        error = failure(entra, config())

        assert isinstance(error, AuthError)
        assert error.code == code
        assert code in str(error)
        assert remedy in str(error)
        assert "Trace ID" not in str(error)

    def test_an_unknown_tenant_is_named_as_the_login_host_names_it(self) -> None:
        error = failure(Entra(), config(tenant_id="unknown.example"))

        assert isinstance(error, AuthError)
        assert error.code == "AADSTS90002"
        assert "Tenant 'unknown.example' not found" in str(error)
        assert "check DATAVERSE_TENANT_ID" in str(error)

    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_a_busy_login_host_can_be_asked_again(self, status: int) -> None:
        entra = Entra()
        entra.refusal = httpx.Response(status, headers={"Retry-After": "7"}, text="<html>busy</html>")
        with http_for(entra) as http:
            auth = DataverseAuth(config(), http)
            with pytest.raises(SourceUnavailable) as caught:
                http.get(f"{ROOT}WhoAmI", auth=auth)
            entra.refusal = None
            reply = http.get(f"{ROOT}WhoAmI", auth=auth)

        assert caught.value.retry_after_s == 7
        assert reply.status_code == 200

    def test_an_answer_that_is_no_json_is_an_auth_error(self, caplog: pytest.LogCaptureFixture) -> None:
        entra = Entra()
        entra.refusal = httpx.Response(200, text="<html>captive portal</html>")

        assert isinstance(failure(entra, config()), AuthError)
        assert SECRET not in caplog.text

    def test_an_unreachable_host_is_named(self) -> None:
        def unplugged(request: httpx.Request) -> httpx.Response:
            message = "Name or service not known"
            raise httpx.ConnectError(message, request=request)

        cannot_reach = r"https://org\.crm\.dynamics\.com: cannot be reached .Name or"
        with (
            httpx.Client(transport=httpx.MockTransport(unplugged)) as http,
            pytest.raises(SourceUnavailable, match=cannot_reach),
        ):
            http.get(f"{ROOT}WhoAmI", auth=DataverseAuth(config(), http))

    @pytest.mark.parametrize(
        "reply",
        [
            httpx.Response(404, text="<html>not here</html>"),
            httpx.Response(200, text="<html>welcome</html>"),
            httpx.Response(302, headers={"Location": "https://elsewhere.example/"}),
            httpx.Response(401, text="who are you"),
            httpx.Response(401, headers={"WWW-Authenticate": "Basic realm=x"}),
        ],
    )
    def test_an_address_that_is_no_dataverse_says_so(self, reply: httpx.Response) -> None:
        with (
            httpx.Client(transport=httpx.MockTransport(lambda _: reply)) as http,
            pytest.raises(AuthError, match="check DATAVERSE_API_URL"),
        ):
            http.get(f"{ROOT}WhoAmI", auth=DataverseAuth(config(), http))


def test_the_fake_speaks_to_plain_msal_too() -> None:
    """Guards the tests above: what they prove holds for MSAL itself and not only for our use of it."""
    entra = Entra()
    with http_for(entra) as http:
        app = msal.ConfidentialClientApplication(
            "app-1",
            authority=f"https://{LOGIN}/{TENANT}",
            client_credential=SECRET,
            http_client=http,
            instance_discovery=False,
        )
        first, second = (app.acquire_token_for_client([f"{ORG}/.default"]) for _ in range(2))

    assert (first["access_token"], first["token_source"]) == ("token-1", "identity_provider")
    assert (second["access_token"], second["token_source"]) == ("token-1", "cache")
