"""Who you are, your organization, this sign-in; and for its owner, what this server can reach."""

import tomllib
from pathlib import Path

import reflex as rx

from api.providers.registry import VENDORS
from api.settings import Settings
from api.tenants.profile import load_profile
from callmissed_app.services import services
from callmissed_app.states.base import Base, handler
from callmissed_app.states.shell import plan_name

VERSION = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["version"]

_ROLES = {
    "owner": "Owner: everything, money and the organization included",
    "admin": "Admin: everything but plan and ownership",
    "agent": "Agent: conversations and contacts",
}


class SettingsState(Base):
    ready: bool = False

    name: str = ""
    email: str = ""
    role: str = ""
    organization: str = ""
    slug: str = ""
    plan: str = ""

    is_owner: bool = False
    base_url: str = ""
    vendors: list[dict[str, str]] = rx.field(default_factory=list)
    missing: str = ""
    mail: str = ""
    storage: str = ""
    version: str = ""

    @handler
    async def load(self, caller):
        """All of the page; the server's facts only for an owner."""
        profile = await load_profile(services().database, caller)
        self.name, self.email, self.role = profile.full_name, profile.email, _ROLES[caller.role]
        self.organization, self.slug = profile.tenant_name, profile.tenant_slug
        self.plan = plan_name(profile.plan)
        self.base_url = f"{services().settings.origin}/v1"
        self.is_owner = caller.role == "owner"
        if self.is_owner:
            self._load_server()
        self.ready = True

    def _load_server(self) -> None:
        settings, vendors = services().settings, services().vendors
        self.vendors = [
            {
                "title": vendor.title,
                "tone": "good" if vendors.is_ready(vendor.name) else "plain",
                "state": "Ready" if vendors.is_ready(vendor.name) else "Not set up",
                "how": how(vendor.name, vendor.setting, settings, is_ready=vendors.is_ready(vendor.name)),
            }
            for vendor in VENDORS.values()
        ]
        self.mail = "SMTP server" if settings.smtp_url else f"Files in {settings.data_dir / 'mail'}"
        self.storage = "PostgreSQL" if not services().database.is_sqlite else f"SQLite in {settings.data_dir}"
        self.version = VERSION


def how(vendor: str, setting: str, settings: Settings, *, is_ready: bool) -> str:
    """What makes a vendor ready, or what would."""
    if vendor == "local":
        return "Small models that run on this machine" if is_ready else _why_not_local(settings)
    if not is_ready:
        return f"Set {setting} and restart the server"
    address = settings.vendor_base_url(vendor)
    return f"At {address}" if address else f"By {setting}"


def _why_not_local(settings: Settings) -> str:
    if not settings.local:
        return "Left out by LOCAL=0"
    return "The model is not on this machine yet: run python -m api models pull"
