"""Handlers are remote procedures: strangers get nothing out of any, and nobody another's values."""

import asyncio
from inspect import signature
from uuid import uuid4

import pytest

from tests.dashboard.site import Site, handlers, tab

FRAMEWORK = "reflex."
PUBLIC = {"entrance_state.enter"}

LOADED = "'is_hydrated_rx_state_': True"
OVERVIEW = "overview_state.load"
SETTINGS = "settings_state.load"


def ours() -> dict[str, str]:
    """Our handlers: name to guard."""
    return {
        name: getattr(function, "guard", "")
        for name, function in handlers().items()
        if not function.__module__.startswith(FRAMEWORK)
    }


def named(ending: str) -> str:
    [name] = [name for name in ours() if name.endswith(ending)]
    return name


def test_every_handler_is_guarded_but_the_door() -> None:
    unguarded = {name for name, guard in ours().items() if guard != "session"}
    assert len(ours()) > 5
    assert {".".join(name.split(".")[-2:]).rpartition("____")[2] for name in unguarded} == PUBLIC


async def test_anonymous_calls_of_every_handler_lead_to_the_door_and_change_nothing(site: Site) -> None:
    guarded = [name for name, guard in ours().items() if guard == "session"]
    async with tab(site, path="/sign-up") as stranger:
        await stranger.until("₹1,000")
        stranger.updates.clear()
        for name in guarded:
            await stranger.call(name, path="/sign-up")
        async with asyncio.timeout(10):
            while len(stranger.sent_to()) < len(guarded):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert set(stranger.sent_to()) == {"/sign-in?next=/sign-up"}
        assert [update["delta"] for update in stranger.updates if update.get("delta")] == []


async def test_the_frameworks_own_handlers_take_nothing_from_strangers(site: Site) -> None:
    reachable = {"hydrate", "hydrate_and_load", "on_load_internal", "set_is_hydrated"}
    async with tab(site, path="/sign-up") as stranger:
        await stranger.until("₹1,000")
        stranger.updates.clear()
        for name, function in handlers().items():
            if function.__module__.startswith(FRAMEWORK) and name.rpartition(".")[2] not in reachable:
                asked = dict.fromkeys(list(signature(function).parameters)[1:], "a stranger was here")
                await stranger.call(name, path="/sign-up", **asked)
        await asyncio.sleep(0.5)
        assert stranger.updates == []
        assert "a stranger was here" not in (site.data / "server.log").read_text()


async def test_a_signed_in_person_sees_the_own_values(site: Site) -> None:
    async with tab(site, site.sign_up("asha@example.com"), path="/settings") as own:
        await own.until("asha@example.com")
        await own.until("₹1,000.00")


@pytest.mark.parametrize("boots", [True, False])
@pytest.mark.parametrize("who", ["another person", "nobody"])
async def test_a_known_token_opens_nobodys_values(site: Site, who: str, boots: bool) -> None:
    token = str(uuid4())
    async with tab(site, site.sign_up(f"owner-{token}@example.com"), token=token, path="/settings") as own:
        await own.until(f"owner-{token}@example.com")
    thief = site.sign_up(f"thief-{token}@example.com", "Ravi Kumar") if who == "another person" else ""
    async with tab(site, thief, token=token, path="/settings", boots=boots) as stolen:
        await stolen.call(named(SETTINGS), path="/settings")
        await stolen.call(named(OVERVIEW), path="/settings")
        await asyncio.sleep(0.6)
        assert f"owner-{token}" not in str(stolen.updates)
        assert "Asha" not in str(stolen.updates)
        assert boots or stolen.updates == []


async def test_a_session_that_ends_takes_its_open_socket_with_it(site: Site) -> None:
    cookie = site.sign_up("leaver@example.com")
    async with tab(site, cookie, path="/settings") as own:
        await own.until("leaver@example.com")
        await own.until(LOADED)
        site.sign_out(cookie)
        own.updates.clear()
        await own.call(named(SETTINGS), path="/settings")
        await own.until("_redirect")
        assert own.sent_to() == ["/sign-in?next=/settings"]
        assert "leaver" not in str([update.get("delta") for update in own.updates])


async def test_the_socket_never_carries_the_cookie_and_the_log_never_shows_it(site: Site) -> None:
    cookie = site.sign_up("quiet@example.com")
    async with tab(site, cookie, path="/settings") as own:
        await own.until("quiet@example.com")
        await own.call("no_such_state.no_such_handler")
        await asyncio.sleep(0.3)
        token = cookie.partition("=")[2]
        assert token not in str(own.updates)
        assert token not in (site.data / "server.log").read_text()
