"""The login service: the challenge of the API, the token endpoint, and the tokens handed out.

Speaks the part of Microsoft Entra that MSAL uses for client credentials: OpenID configuration, client secrets, and
client assertions signed by a registered certificate.
"""

import base64
import time
from collections.abc import Mapping
from secrets import token_urlsafe
from typing import Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import load_pem_x509_certificate
from msgspec import DecodeError, json

from igh_sync_core.sandbox.replies import Reply

ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LONGEST_S: Final = 3599
_PART: Final = json.Decoder(dict[str, object])


class Registration(NamedTuple):
    """The one app registration that may log in.

    Attributes:
        authority_host: Origin that the challenge names, such as ``https://login.microsoftonline.com``.
    """

    client_id: str
    client_secret: str
    tenant_id: str
    authority_host: str


class Rejection(Exception):
    """A token request that is refused."""

    def __init__(self, status: int, error: str, number: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.error = error
        self.number = number

    def reply(self) -> Reply:
        """The error as Entra words it."""
        content = {
            "error": self.error,
            "error_description": f"AADSTS{self.number}: {self}",
            "error_codes": [self.number],
            "timestamp": time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime()),
            "trace_id": "00000000-0000-0000-0000-00000000a700",
            "correlation_id": "00000000-0000-0000-0000-00000000c000",
        }
        return Reply(self.status, json.encode(content), {"Content-Type": "application/json; charset=utf-8"})


class Login:
    """Hands out tokens and knows which of them still count."""

    def __init__(self, registration: Registration) -> None:
        self.registration = registration
        self.lifetime_s = LONGEST_S
        self.issued = 0
        self._certificates: list[RSAPublicKey] = []
        self._tokens: dict[str, tuple[str, float]] = {}

    def accept_certificate(self, pem: bytes | str) -> None:
        """Register an RSA certificate for client assertions.

        Raises:
            TypeError: The certificate's key is not RSA.
        """
        data = pem.encode() if isinstance(pem, str) else pem
        key = load_pem_x509_certificate(data).public_key()
        if not isinstance(key, RSAPublicKey):
            msg = "only RSA certificates sign client assertions"
            raise TypeError(msg)
        self._certificates.append(key)

    def challenge(self, origin: str) -> Reply:
        """The answer to a request without a good token; its body is no JSON."""
        authority = f"{self.registration.authority_host}/{self.registration.tenant_id}/oauth2/authorize"
        value = f"Bearer authorization_uri={authority}, resource_id={origin}/"
        body = b"HTTP Error 401 - Unauthorized: Access is denied"
        return Reply(401, body, {"WWW-Authenticate": value, "Content-Type": "text/plain"})

    def admits(self, authorization: str, origin: str) -> bool:
        """Whether the ``Authorization`` header carries a token for this origin that has not run out."""
        scheme, _, token = authorization.partition(" ")
        audience, until = self._tokens.get(token.strip(), ("", 0.0))
        return scheme.lower() == "bearer" and audience == origin and until > time.time()

    def issue(self, origin: str) -> str:
        """A token for the API at *origin*, such as ``https://localhost:8443``."""
        token = f"eyJ0eXAiOiJKV1Qi.{token_urlsafe(96)}.{token_urlsafe(32)}"
        self._tokens[token] = (origin, time.time() + self.lifetime_s)
        self.issued += 1
        return token

    def revoke(self) -> None:
        """Void every token issued so far."""
        self._tokens.clear()

    def respond(self, url: str, body: bytes) -> Reply | None:
        """The answer of the login service, or None when *url* is none of its addresses."""
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        tenant, _, rest = parts.path.strip("/").partition("/")
        if rest == "v2.0/.well-known/openid-configuration":
            return self._configuration(origin, tenant)
        if rest != "oauth2/v2.0/token":
            return None
        try:
            return self._token(_form(body), tenant, endpoint=f"{origin}{parts.path}")
        except Rejection as rejection:
            return rejection.reply()

    def _configuration(self, origin: str, tenant: str) -> Reply:
        if tenant != self.registration.tenant_id:
            return Rejection(400, "invalid_tenant", 90002, f"Tenant '{tenant}' not found.").reply()
        base = f"{origin}/{tenant}"
        content = {
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
            "jwks_uri": f"{base}/discovery/v2.0/keys",
            "issuer": f"{base}/v2.0",
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
        }
        return Reply(200, json.encode(content), {"Content-Type": "application/json; charset=utf-8"})

    def _token(self, form: Mapping[str, str], tenant: str, *, endpoint: str) -> Reply:
        if tenant != self.registration.tenant_id:
            raise Rejection(400, "invalid_request", 90002, f"Tenant '{tenant}' not found.")
        if form.get("grant_type") != "client_credentials":
            raise Rejection(400, "unsupported_grant_type", 70003, "The app requested an unsupported grant type.")
        if form.get("client_id") != self.registration.client_id:
            text = f"Application with identifier '{form.get('client_id')}' was not found in the directory."
            raise Rejection(400, "unauthorized_client", 700016, text)
        self._check_credential(form, endpoint)
        token = self.issue(_audience(form.get("scope", "")))
        content = {
            "token_type": "Bearer",
            "expires_in": self.lifetime_s,
            "ext_expires_in": self.lifetime_s,
            "access_token": token,
        }
        return Reply(200, json.encode(content), {"Content-Type": "application/json; charset=utf-8"})

    def _check_credential(self, form: Mapping[str, str], endpoint: str) -> None:
        if form.get("client_assertion_type") == ASSERTION:
            self._check_assertion(form.get("client_assertion", ""), endpoint)
        elif form.get("client_secret") != self.registration.client_secret:
            raise Rejection(401, "invalid_client", 7000215, "Invalid client secret provided.")

    def _check_assertion(self, assertion: str, endpoint: str) -> None:
        try:
            header, claims, signature = (_unpad(part) for part in assertion.split("."))
            algorithm = _PART.decode(header).get("alg")
            said = _PART.decode(claims)
        except (ValueError, DecodeError) as exc:
            raise Rejection(401, "invalid_client", 50027, "JWT token is invalid or malformed.") from exc
        signed = assertion.rpartition(".")[0].encode()
        if not any(_verifies(key, str(algorithm), signature, signed) for key in self._certificates):
            raise Rejection(
                401, "invalid_client", 700027, "The certificate used to sign the client assertion is not registered."
            )
        self._check_claims(said, endpoint)

    def _check_claims(self, claims: Mapping[str, object], endpoint: str) -> None:
        client = self.registration.client_id
        if claims.get("aud") != endpoint or claims.get("iss") != client or claims.get("sub") != client:
            raise Rejection(401, "invalid_client", 700023, "Client assertion audience claim does not match.")
        until = claims.get("exp")
        if not isinstance(until, int | float) or until < time.time():
            raise Rejection(401, "invalid_client", 700024, "Client assertion is not within its valid time range.")


def _form(body: bytes) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(body.decode(), keep_blank_values=True).items()}


def _audience(scope: str) -> str:
    """Origin that *scope* names; it must be ``<origin>/.default``."""
    wanted = next((part for part in scope.split() if part.endswith("/.default")), "")
    parts = urlsplit(wanted)
    if not parts.netloc or parts.path.lstrip("/") != ".default":
        raise Rejection(400, "invalid_scope", 1002012, f"The provided value for scope {scope} is not valid.")
    return f"{parts.scheme}://{parts.netloc}"


def _unpad(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _verifies(key: RSAPublicKey, algorithm: str, signature: bytes, signed: bytes) -> bool:
    schemes: dict[str, padding.AsymmetricPadding] = {
        "RS256": padding.PKCS1v15(),
        "PS256": padding.PSS(mgf=padding.MGF1(SHA256()), salt_length=padding.PSS.DIGEST_LENGTH),
    }
    if algorithm not in schemes:
        return False
    try:
        key.verify(signature, signed, schemes[algorithm], SHA256())
    except InvalidSignature:
        return False
    return True
