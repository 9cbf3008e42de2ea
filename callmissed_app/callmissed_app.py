"""The Reflex app: its pages, put together."""

import logging
import pkgutil
from importlib import import_module

import reflex as rx

from callmissed_app import pages, theme
from callmissed_app.components.frame import failed_page
from callmissed_app.states.guard import Guard

log = logging.getLogger(__name__)


def in_browser(exception: Exception) -> None:
    """What the pages report of their own failures goes to the log, cut short: anybody can send it."""
    log.warning("A page failed: %.500s", exception)


def in_handler(exception: Exception) -> None:
    """Handlers answer for themselves (`states/base.py`); what escapes them is logged and shown to nobody."""
    log.error("An event failed.", exc_info=exception)


# Importing a page is registering it.
for module in pkgutil.iter_modules(pages.__path__):
    import_module(f"{pages.__name__}.{module.name}")

app = rx.App(
    stylesheets=theme.stylesheets(),
    reset_style=False,
    head_components=theme.head(),
    html_lang="en",
    # Our own, in `layout`: they need no script sent by the server, so the policy can forbid that.
    toaster=None,
    app_wraps={(55, "ErrorBoundary"): lambda _: failed_page()},
    frontend_exception_handler=in_browser,
    backend_exception_handler=in_handler,
)
app.add_middleware(Guard())
