"""Settings: read once from the environment, frozen, passed down. The only reader of `os.environ`."""

import os
import re
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_VENDOR_NAME = re.compile(r"^([A-Z][A-Z0-9]*)_(API_KEY|BASE_URL|PAT)$")


class Settings(BaseSettings):
    """What an operator may decide. Every field is the variable `CALLMISSED_<FIELD>` unless it says else."""

    model_config = SettingsConfigDict(
        env_prefix="CALLMISSED_", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    # Where does it run?
    host: str = Field("127.0.0.1", validation_alias="HOST", description="Address to listen on.")
    port: int = Field(8000, validation_alias="PORT", description="Port to listen on.", ge=0, le=65535)
    public_url: str | None = Field(
        None, description="Address people reach it at. Unset: `http://HOST:PORT`, and the browser's own."
    )
    api_url: str | None = Field(
        None, description="Address the dashboard's server side calls `/v1` at. Unset: its own port."
    )
    workers: int = Field(1, description="API processes; more than one needs PostgreSQL and Redis.", ge=1)
    trusted_proxy_hops: int = Field(0, description="Proxies in front whose `X-Forwarded-For` counts.", ge=0)
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Log level.")

    # Where does it keep things?
    data_dir: Path = Field(Path("data"), description="Folder for database, mail, models and secrets.")
    database_url: SecretStr | None = Field(
        None, description="`postgresql://…`. Unset: SQLite in the data folder."
    )
    redis_url: SecretStr | None = Field(None, description="`redis://…`, shared rate limits for many workers.")
    secret_key: SecretStr | None = Field(
        None, description="Key for HMACs and tokens. Unset: made once in `data/secret.key`."
    )

    # What do people get and pay?
    signup_bonus_credits: int = Field(1000, description="Credits a new account starts with.", ge=0)
    signup_plan: str = Field("self_hosted", description="Plan of a new account.")
    credits_per_usd: int = Field(96, description="Credits for one US dollar of list price.", ge=1)
    catalog_file: Path | None = Field(
        None, description="Extra models. Unset: `models.toml` in the data folder."
    )
    default_model: str = Field("kimi-k2.5-fast", description="What `auto` or no model means.")

    # How does it send mail?
    smtp_url: SecretStr | None = Field(
        None, description="`smtp://user:password@host:587`. Unset: mail is a file in `data/mail/`."
    )
    mail_from: str = Field("CallMissed <no-reply@localhost>", description="Sender of mail.")

    # How long may things take?
    first_block_wait: float = Field(
        15.0, description="Seconds headers wait for the vendor's first block.", gt=0
    )
    request_deadline: float = Field(600.0, description="Seconds a request may take in all.", gt=0)
    stall_timeout: float = Field(120.0, description="Seconds a vendor's stream may be silent.", gt=0)
    connect_timeout: float = Field(10.0, description="Seconds to connect to a vendor.", gt=0)
    keep_alive_interval: float = Field(
        15.0, description="Seconds between comments on a waiting stream.", gt=0
    )
    max_body_bytes: int = Field(10_485_760, description="Largest JSON body taken, in bytes.", ge=1024)
    transport: Literal["own", "httpx"] = Field("own", description="Client for vendors' HTTP.")

    # Which engines run here?
    local: Annotated[bool, NoDecode] = Field(
        True, validation_alias="LOCAL", description="`0` leaves the local engines out."
    )

    vendors: dict[str, str] = Field(default_factory=dict, exclude=True, repr=False)
    """Vendor variables as people know them: `OPENAI_API_KEY`, `OPENAI_BASE_URL`, …"""

    @cached_property
    def origin(self) -> str:
        """The public origin without a trailing slash: `http://127.0.0.1:8000`."""
        if self.public_url:
            return self.public_url.rstrip("/")
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @cached_property
    def origins(self) -> tuple[str, ...]:
        """Origins the dashboard may be opened from; `localhost` and `127.0.0.1` are one on loopback."""
        names = {self.origin}
        if self.is_loopback:
            names |= {f"http://127.0.0.1:{self.port}", f"http://localhost:{self.port}"}
        return tuple(sorted(names))

    @cached_property
    def is_loopback(self) -> bool:
        """Whether both the public address and the bind address are this machine only."""
        return _is_loopback(self.host) and _is_loopback(urlsplit(self.origin).hostname or "")

    @cached_property
    def is_https(self) -> bool:
        """Whether people reach it over TLS: cookies are `Secure` and `__Host-` then."""
        return self.origin.startswith("https://")

    def vendor_key(self, vendor: str) -> str | None:
        """`<VENDOR>_API_KEY` (or `<VENDOR>_PAT`), None when unset or empty."""
        name = vendor.upper()
        return self.vendors.get(f"{name}_API_KEY") or self.vendors.get(f"{name}_PAT") or None

    def vendor_base_url(self, vendor: str) -> str | None:
        """`<VENDOR>_BASE_URL` without a trailing slash, None when unset or empty."""
        return (self.vendors.get(f"{vendor.upper()}_BASE_URL") or "").rstrip("/") or None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def load_settings(**overrides: object) -> Settings:
    """The settings of this process; `overrides` (by field name) win over the environment, for tests."""
    vendors = {name: value for name, value in os.environ.items() if _VENDOR_NAME.match(name)}
    given = {"vendors": vendors, **overrides}
    aliases = {"host": "HOST", "port": "PORT", "local": "LOCAL"}
    return Settings(**{aliases.get(name, name): value for name, value in given.items()})  # type: ignore[arg-type]
