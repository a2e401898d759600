import pytest
from wires import TENANT

from igh_sync_core.errors import AuthError
from igh_sync_core.webapi.auth import Challenge, parse_challenge


@pytest.mark.parametrize(
    "header",
    [
        "Bearer authorization_uri=https://login.microsoftonline.com/{t}/oauth2/authorize, resource_id=https://org/",
        'Bearer authorization_uri="https://login.microsoftonline.com/{t}/oauth2/authorize", resource_id="https://org/"',
        "bearer AUTHORIZATION_URI = https://Login.MicrosoftOnline.com/{t}/oauth2/v2.0/authorize",
        "Bearer resource_id=https://org/,authorization_uri=https://login.microsoftonline.com/{t}",
        "Negotiate, Bearer authorization_uri=https://login.microsoftonline.com/{t}/",
    ],
)
def test_every_known_spelling_is_read(header: str) -> None:
    challenge = parse_challenge(header.format(t=TENANT))

    assert challenge == Challenge("login.microsoftonline.com", TENANT)


def test_a_port_stays_with_the_host() -> None:
    header = "Bearer authorization_uri=https://localhost:4443/contoso.com/oauth2/authorize, resource_id=x"

    assert parse_challenge(header) == Challenge("localhost:4443", "contoso.com")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic realm=x",
        "Bearer",
        "Bearer authorization_uri=http://login.microsoftonline.com/t/oauth2/authorize",
        "Bearer authorization_uri=https://login.microsoftonline.com/",
    ],
)
def test_anything_else_is_no_dataverse_login(header: str) -> None:
    with pytest.raises(AuthError, match="no login that Dataverse uses"):
        parse_challenge(header)
