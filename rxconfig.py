"""How Reflex builds and runs the dashboard."""

import reflex as rx

from api.settings import load_settings
from callmissed_app.bundle import SameOrigin

settings = load_settings()
redis_url = settings.redis_url.get_secret_value() if settings.redis_url else None

config = rx.Config(
    app_name="callmissed_app",
    telemetry_enabled=False,
    show_built_with_reflex=False,
    # Who may open the event socket; Reflex's default lets every site in.
    cors_allowed_origins=list(settings.origins),
    trusted_proxy_hops=settings.trusted_proxy_hops,
    # Never on disk: a session's state would outlive its session there.
    state_manager_mode="redis" if redis_url else "memory",
    redis_url=redis_url,
    frontend_compression_formats=["gzip", "brotli"],
    plugins=[SameOrigin()],
    # Its links would name the machine that built the bundle.
    disable_plugins=[rx.plugins.SitemapPlugin],
)
