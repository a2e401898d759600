"""Prefect blocks: whose Dataverse, as whom, and which database.

Prefect imports this module in each of its processes (entry point ``prefect.collections``), so nothing heavy is
imported before a block is used. Fields that may stay empty are empty text, not null: forms then show a plain field.
Blocks never cross the border of a task: flows and tasks pass their names.
"""

from typing import TYPE_CHECKING, ClassVar, Self

from prefect.blocks.abstract import CredentialsBlock
from prefect.blocks.core import Block
from pydantic import ConfigDict, Field, HttpUrl, SecretStr, model_validator

if TYPE_CHECKING:
    from igh_sync_core.config import Config
    from igh_sync_core.webapi.client import Client

# Without the internet the pages show no picture, as for Prefect's own blocks: its client takes nothing but http and
# https here (a data: URI or a path is refused, also when it is read back from a server that would keep it), and where
# a server serves its own files is not known when a class is written.
_LOGOS = "https://cdn.sanity.io/images/3ugk85nk/production"
_ABOUT_LOGINS = "https://learn.microsoft.com/power-platform/admin/manage-application-users"
_ABOUT_ADDRESSES = "https://docs.sqlalchemy.org/en/20/core/engines.html#database-urls"
# What is read from Prefect's server is not masked yet: an error of validation would show the secrets in clear.
_DISCREET = ConfigDict(hide_input_in_errors=True)


class SyncDatabase(Block):
    """Where the copy is kept: a SQLite file, or a PostgreSQL database.

    PostgreSQL wins when both are given; give it when more than one machine works on a run.

    Attributes:
        sqlite_path: SQLite file; created where it does not exist.
        postgres_url: Address of a PostgreSQL database, with user and password.

    Examples:
        Keep the copy in PostgreSQL:
        ```python
        from flows.blocks import SyncDatabase

        SyncDatabase(postgres_url="postgresql://user:password@host:5432/copy").save("copy")
        database = SyncDatabase.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Dataverse Sync Database"
    _block_type_slug = "sync-database"
    _logo_url: ClassVar[HttpUrl] = HttpUrl(f"{_LOGOS}/3c7dff04f70aaf4528e184a3b028f9e40b98d68c-250x250.png")
    _documentation_url: ClassVar[HttpUrl] = HttpUrl(_ABOUT_ADDRESSES)

    model_config = _DISCREET

    sqlite_path: str = Field(
        default="",
        title="SQLite file",
        description="Path of a SQLite file on the machine that runs the flow; created where it does not exist.",
    )
    postgres_url: SecretStr = Field(
        default=SecretStr(""),
        title="PostgreSQL URL",
        description="Such as postgresql://user:password@host:5432/database; wins over the SQLite file.",
    )

    @model_validator(mode="after")
    def _names_a_place(self) -> Self:
        if not (self.sqlite_path or self.postgres_url.get_secret_value()):
            msg = "give a SQLite file or a PostgreSQL URL"
            raise ValueError(msg)
        return self

    def settings(self) -> dict[str, str]:
        """The block's values by field of ``Config``; "" for what is not set."""
        return {
            "sqlite_db_path": self.sqlite_path,
            "postgres_connection_string": self.postgres_url.get_secret_value(),
        }


class DataverseCredentials(CredentialsBlock):
    """Login of an app registration (client credentials) to one Microsoft Dataverse environment.

    Give a client secret or a certificate. The tenant and the login host are asked from the environment unless named.

    Attributes:
        api_url: Address of the environment.
        client_id: Application (client) id.
        client_secret: Secret of the app registration.
        certificate: Private key and certificate as PEM text, in place of the secret.
        certificate_password: Password of that private key.
        tenant_id: Tenant id or domain.
        authority: Login host, for sovereign clouds.
        scope: Scope asked for.
        ca_file: Further trusted certificate authorities.

    Examples:
        Save credentials once, and run the flow with their name:
        ```python
        from flows.blocks import DataverseCredentials
        from flows.sync_dataverse import sync_dataverse

        credentials = DataverseCredentials.load("BLOCK_NAME")
        print(credentials.check())
        sync_dataverse(credentials="BLOCK_NAME")
        ```
    """

    _block_type_name = "Dataverse Credentials"
    _block_type_slug = "dataverse-credentials"
    _logo_url: ClassVar[HttpUrl] = HttpUrl(f"{_LOGOS}/54e3fa7e00197a4fbd1d82ed62494cb58d08c96a-250x250.png")
    _documentation_url: ClassVar[HttpUrl] = HttpUrl(_ABOUT_LOGINS)

    model_config = _DISCREET

    api_url: str = Field(
        title="Environment URL", description="Address of the environment, such as https://org.crm.dynamics.com."
    )
    client_id: str = Field(title="Client id", description="Application (client) id of the app registration.")
    client_secret: SecretStr = Field(
        default=SecretStr(""),
        title="Client secret",
        description="Secret of the app registration; leave empty for a certificate.",
    )
    certificate: SecretStr = Field(
        default=SecretStr(""),
        title="Certificate",
        description="PEM text with private key and certificate, in place of the client secret.",
    )
    certificate_password: SecretStr = Field(
        default=SecretStr(""),
        title="Certificate password",
        description="Password of the private key, where it has one.",
    )
    tenant_id: str = Field(
        default="", title="Tenant", description="Tenant id or domain; asked from the environment when empty."
    )
    authority: str = Field(
        default="",
        title="Login host",
        description="Such as https://login.microsoftonline.us; asked from the environment when empty.",
    )
    scope: str = Field(
        default="", title="Scope", description="Scope asked for; the environment's own /.default when empty."
    )
    ca_file: str = Field(
        default="",
        title="CA file",
        description="PEM file with further trusted certificate authorities, on the machine that runs the flow.",
    )

    def settings(self) -> dict[str, str]:
        """The block's values by field of ``Config``, secrets in clear; "" for what is not set."""
        return {
            "api_url": self.api_url,
            "client_id": self.client_id,
            "client_secret": self.client_secret.get_secret_value(),
            "certificate_file": self.certificate.get_secret_value(),
            "certificate_password": self.certificate_password.get_secret_value(),
            "tenant_id": self.tenant_id,
            "authority": self.authority,
            "scope": self.scope,
            "ca_file": self.ca_file,
        }

    def to_config(self, database: SyncDatabase | None = None) -> "Config":
        """The core's settings.

        Args:
            database: Where the copy is kept; None for what the environment says.

        Raises:
            ConfigError: Lists every fault of the values.
        """
        from igh_sync_core.config import load_config  # noqa: PLC0415 - heavy; see the module's docstring

        return load_config(given=self.settings() | (database.settings() if database else {}))

    def get_client(self) -> "Client":
        """Open a client of the Web API; a context manager that closes its connections.

        Raises:
            ConfigError: Lists every fault of the values.
        """
        from igh_sync_core.webapi.client import Client  # noqa: PLC0415 - heavy; see the module's docstring

        return Client(self.to_config())

    def check(self) -> str:
        """One line that says whether these credentials work, and what to do if not; logs in to find out."""
        from igh_sync_core.errors import SyncError  # noqa: PLC0415 - heavy; see the module's docstring
        from igh_sync_core.workflow import authenticate  # noqa: PLC0415 - heavy; see the module's docstring

        try:
            with self.get_client() as client:
                authenticate(client)
        except SyncError as exc:
            return f"the credentials do not work: {exc}"
        return f"the credentials work: {self.api_url} let application {self.client_id} in"
