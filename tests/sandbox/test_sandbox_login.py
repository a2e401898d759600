"""Login and rights: the challenge, tokens, certificates, and what a user may not do."""

from datetime import UTC, datetime

import httpx
import pytest
import trustme

from igh_sync_core.sandbox import Organisation, Sandbox

LOGIN = "https://login.microsoftonline.com"


def ask_token(api: httpx.Client, sandbox: Sandbox, **changed: str) -> httpx.Response:
    app = sandbox.login.registration
    form = {
        "client_id": app.client_id,
        "client_secret": app.client_secret,
        "grant_type": "client_credentials",
        "scope": "https://org.crm.dynamics.com/.default",
    }
    return api.post(f"{LOGIN}/{app.tenant_id}/oauth2/v2.0/token", data=form | changed)


def test_challenge_names_the_tenant_in_plain_text(api: httpx.Client, sandbox: Sandbox) -> None:
    reply = api.get("", headers={"Authorization": ""})

    assert reply.status_code == 401
    assert reply.headers["WWW-Authenticate"] == (
        f"Bearer authorization_uri={LOGIN}/{sandbox.login.registration.tenant_id}/oauth2/authorize, "
        "resource_id=https://org.crm.dynamics.com/"
    )
    assert not reply.text.startswith("{")


@pytest.mark.parametrize(
    ("changed", "status", "error"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_id": "somebody"}, 400, "unauthorized_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"scope": "user_impersonation"}, 400, "invalid_scope"),
    ],
)
def test_bad_token_requests(
    api: httpx.Client, sandbox: Sandbox, changed: dict[str, str], status: int, error: str
) -> None:
    reply = ask_token(api, sandbox, **changed)

    assert (reply.status_code, reply.json()["error"]) == (status, error)


def test_token_is_good_for_its_own_environment_until_revoked(api: httpx.Client, sandbox: Sandbox) -> None:
    headers = {"Authorization": f"Bearer {ask_token(api, sandbox).json()['access_token']}"}

    assert api.get("WhoAmI", headers=headers).status_code == 200
    assert api.get("https://other.crm.dynamics.com/api/data/v9.2/WhoAmI", headers=headers).status_code == 401
    sandbox.revoke_tokens()
    assert api.get("WhoAmI", headers=headers).status_code == 401


def test_tokens_run_out(api: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.token_lifetime_s = 0

    token = ask_token(api, sandbox).json()

    assert token["expires_in"] == 0
    assert api.get("WhoAmI", headers={"Authorization": f"Bearer {token['access_token']}"}).status_code == 401


def test_only_rsa_certificates_can_be_registered(sandbox: Sandbox) -> None:
    certificate = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert("app").cert_chain_pems[0].bytes()

    with pytest.raises(TypeError, match="RSA"):
        sandbox.accept_certificate(certificate)


def test_rights_are_refused_with_their_codes(api: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.deny("account")
    sandbox.refuse_order_by("systemuser")
    denied = api.get("accounts")

    assert (denied.status_code, denied.json()["error"]["code"]) == (403, "0x80040220")
    assert "prvReadaccount" in denied.json()["error"]["message"]
    assert api.get("contacts").status_code == 200
    assert api.get("systemusers?$orderby=systemuserid").status_code == 400
    sandbox.no_application_user = True
    stranger = api.get("contacts")
    assert (stranger.status_code, stranger.json()["error"]["code"]) == (403, "0x80072560")


def test_log_tells_what_arrived(api: httpx.Client, sandbox: Sandbox, organisation: Organisation) -> None:
    api.get("accounts?$select=name", headers={"Prefer": "odata.maxpagesize=3"})
    api.delete(f"accounts({organisation.keys('account')[0]})")

    assert [(one.method, one.query, one.status) for one in sandbox.log] == [
        ("GET", "$select=name", 200),
        ("DELETE", "", 405),
    ]
    assert sandbox.log[0].headers["prefer"] == "odata.maxpagesize=3"
    assert not [one for one in sandbox.log if "authorization" in one.headers]


def test_clock_is_the_server_date(api: httpx.Client, organisation: Organisation) -> None:
    organisation.clock.set(datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC))
    key = organisation.insert("account", {"name": "now"})

    assert api.get("WhoAmI").headers["Date"] == "Tue, 03 Feb 2026 04:05:06 GMT"
    assert organisation.record("account", key)["modifiedon"] == "2026-02-03T04:05:06Z"
