"""The keys page: made once and shown once, limited, rotated, revoked; and only by who may."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from itertools import count
from typing import Any

import httpx2
import pytest

from api.money import micro
from api.tenants.keys import KeyDetails
from api.types import DAY, new_id, now
from callmissed_app.states.key_form import WrongFields, changes_of, draft_of
from callmissed_app.states.key_rows import first_model, row_of
from tests.dashboard.site import Site, Tab, tab
from tests.dashboard.talking import Talking, named, talking_site, told, until
from tests.upstream import completion

PATH = "/keys"
STATE = "keys_state"
FORM = {
    "name": "Website",
    "kind": "live",
    "expiry": "never",
    "budget": "",
    "rpm": "",
    "domains": "",
    "permission": ["llm", "stt", "tts", "search", "image"],
}

_people = count()


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talking]:
    with talking_site(tmp_path_factory.mktemp("keys")) as running:
        running.vendor.script = lambda _: completion("Namaste", tokens=3)
        yield running


@pytest.fixture
async def asha(talking: Talking) -> AsyncIterator[Tab]:
    cookie = talking.site.sign_up(f"keys{next(_people)}@example.com")
    async with tab(talking.site, cookie, path=PATH) as opened:
        await until(opened, STATE, loaded=True)
        yield opened


async def call(opened: Tab, handler: str, **payload: Any) -> None:
    await opened.call(named(f"{STATE}.{handler}"), path=PATH, **payload)


async def create(opened: Tab, **fields: Any) -> str:
    """Make a key with the form; its secret, once the list has it too."""
    await call(opened, "open_new")
    before = len(told(opened, STATE)["rows"])
    await call(opened, "save", form=FORM | fields)
    async with asyncio.timeout(8):
        while len(told(opened, STATE)["rows"]) == before:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return str(told(opened, STATE)["secret"])


async def changed_secret(opened: Tab, old: str) -> str:
    """The secret that is shown after `old`."""
    async with asyncio.timeout(8):
        while (new := told(opened, STATE)["secret"]) == old:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return str(new)


def status(site: Site, key: str, **more: Any) -> int:
    """What /v1 answers to the key."""
    asked = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}], **more}
    headers = {"authorization": f"Bearer {key}"}
    return httpx2.post(f"{site.url}/v1/chat/completions", json=asked, headers=headers).status_code


async def test_a_new_key_works_and_its_secret_goes_when_it_is_kept(asha: Tab, talking: Talking) -> None:
    key = await create(asha)
    assert status(talking.site, key) == 200
    [row] = told(asha, STATE)["rows"]
    assert (row["name"], row["status"]) == ("Website", "Active") and row["hint"].endswith(key[-4:])
    await call(asha, "forget_secret", kept=True)
    await until(asha, STATE, secret="", code="")
    await call(asha, "load")
    await until(asha, STATE, loaded=True)
    assert key not in str(told(asha, STATE))


async def test_a_secret_that_may_be_lost_is_asked_for_once_more(asha: Tab) -> None:
    key = await create(asha)
    await call(asha, "forget_secret", kept=False)
    await until(asha, STATE, secret_asked=True)
    assert told(asha, STATE)["secret"] == key
    await call(asha, "forget_secret", kept=False)
    await until(asha, STATE, secret="")


@pytest.mark.parametrize("language", ["python", "curl"])
async def test_the_code_shown_with_a_new_key_runs_as_it_stands(
    asha: Tab, talking: Talking, language: str
) -> None:
    await create(asha)
    await call(asha, "choose_language", language=language)
    shown = await until(asha, STATE, language=language)
    command = [sys.executable, "-"] if language == "python" else ["sh"]
    ran = await asyncio.to_thread(
        subprocess.run, command, input=shown["code"], capture_output=True, text=True, check=False
    )
    assert "Namaste" in ran.stdout, ran.stderr


async def test_limits_of_the_form_are_in_force(asha: Tab, talking: Talking) -> None:
    key = await create(asha, model=["gpt-4o"], budget="0.5", rpm="2", expiry="30")
    assert status(talking.site, key, model="gpt-4.1") == 403
    assert status(talking.site, key, max_tokens=4000) == 402
    assert [status(talking.site, key, max_tokens=5) for _ in range(3)].count(429) >= 1
    [row] = told(asha, STATE)["rows"]
    assert (row["rpm"], row["models"], row["budget"]) == ("2", "gpt-4o", "of ₹0.50")


async def test_wrong_fields_are_all_said_beside_them_and_make_no_key(asha: Tab) -> None:
    await call(asha, "open_new")
    wrong = {"name": " ", "budget": "much", "rpm": "0", "domains": "http://x.com/a", "permission": []}
    await call(asha, "save", form=FORM | wrong)
    shown = await until(asha, STATE, more_open=True)
    assert shown["errors"].keys() == wrong.keys()
    assert shown["form_open"] is True and shown["rows"] == []


async def test_a_change_is_in_force_at_once_and_keeps_what_was_not_changed(
    asha: Tab, talking: Talking
) -> None:
    key = await create(asha, expiry="30", reads_usage=True)
    assert status(talking.site, key) == 200
    [row] = told(asha, STATE)["rows"]
    await call(asha, "open_details", key_id=row["id"])
    await call(asha, "open_edit")
    await until(asha, STATE, form_open=True)
    await call(asha, "save", form=FORM | {"expiry": "keep", "model": ["gpt-4.1"], "name": "Shop"})
    await asha.until("“Shop” is changed")
    await until(asha, STATE, form_open=False)
    assert status(talking.site, key) == 403
    [changed] = told(asha, STATE)["rows"]
    assert (changed["name"], changed["expires"]) == ("Shop", row["expires"])
    assert changed["reads_usage"] is False


async def test_a_budget_below_what_is_spent_is_refused_beside_its_field(asha: Tab, talking: Talking) -> None:
    key = await create(asha, budget="500")
    assert status(talking.site, key) == 200
    [row] = told(asha, STATE)["rows"]
    await call(asha, "open_details", key_id=row["id"])
    await call(asha, "open_edit")
    await until(asha, STATE, form_open=True)
    await call(asha, "save", form=FORM | {"expiry": "keep", "budget": "0"})
    await asha.until("already spent")
    assert told(asha, STATE)["errors"].keys() == {"budget"}


async def test_rotating_at_once_ends_the_old_secret_and_shows_the_new(asha: Tab, talking: Talking) -> None:
    old = await create(asha)
    assert status(talking.site, old) == 200
    [row] = told(asha, STATE)["rows"]
    await call(asha, "open_details", key_id=row["id"])
    await call(asha, "ask_rotate")
    await call(asha, "rotate", form={"overlap": "0"})
    new = await changed_secret(asha, old)
    assert (status(talking.site, new), status(talking.site, old)) == (200, 401)


async def test_rotating_with_overlap_leaves_both_secrets_working(asha: Tab, talking: Talking) -> None:
    old = await create(asha)
    [row] = told(asha, STATE)["rows"]
    await call(asha, "open_details", key_id=row["id"])
    await call(asha, "rotate", form={"overlap": "24"})
    new = await changed_secret(asha, old)
    assert (status(talking.site, new), status(talking.site, old)) == (200, 200)


async def test_a_revoked_key_is_dead_and_can_be_taken_off_the_list(asha: Tab, talking: Talking) -> None:
    key = await create(asha)
    assert status(talking.site, key) == 200
    [row] = told(asha, STATE)["rows"]
    await call(asha, "open_details", key_id=row["id"])
    await call(asha, "remove")
    await call(asha, "revoke")
    await asha.until("is revoked")
    assert status(talking.site, key) == 401
    await call(asha, "open_details", key_id=row["id"])
    await call(asha, "remove")
    await until(asha, STATE, rows=[])


async def test_an_agent_sees_no_key_and_makes_none(talking: Talking) -> None:
    cookie = talking.site.sign_up("agent@example.com")
    with sqlite3.connect(talking.site.data / "callmissed.db") as books:
        books.execute("UPDATE users SET role = 'agent' WHERE email = 'agent@example.com'")
    async with tab(talking.site, cookie, path=PATH) as agent:
        await until(agent, STATE, loaded=True, allowed=False)
        await call(agent, "open_new")
        await agent.until("Requires role")
        agent.updates.clear()
        await call(agent, "save", form=FORM)
        await agent.until("Requires role")
        assert told(agent, STATE).get("secret", "") == ""


async def test_a_stranger_reaches_no_key_by_its_id(asha: Tab, talking: Talking) -> None:
    key = await create(asha)
    [row] = told(asha, STATE)["rows"]
    async with tab(talking.site, talking.site.sign_up("stranger@example.com"), path=PATH) as stranger:
        await until(stranger, STATE, loaded=True)
        await call(stranger, "open_details", key_id=row["id"])
        for handler in ("revoke", "remove", "open_edit"):
            stranger.updates.clear()
            await call(stranger, handler)
            await stranger.until("API key not found")
        await call(stranger, "rotate", form={"overlap": "0"})
        await asyncio.sleep(0.2)
        assert "Website" not in str(stranger.updates)
    assert status(talking.site, key) == 200


def details(**values: Any) -> KeyDetails:
    """An ordinary key; `values` say what is different about it."""
    return KeyDetails(
        **{
            "id": new_id(),
            "name": "Website",
            "kind": "live",
            "hint": "cm_live_…a1B2",
            "permissions": "*",
            "scopes": "",
            "allowed_domains": ("*",),
            "allowed_models": ("*",),
            "rate_limit_rpm": None,
            "effective_rpm": 10_000,
            "budget_limit": None,
            "budget_used": 0,
            "budget_held": 0,
            "logs_enabled": False,
            "prompt_logging_enabled": False,
            "created_at": now(),
            "expires_at": None,
            "revoked_at": None,
            "last_used_at": None,
            **values,
        }
    )


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({}, "Active"),
        ({"expires_at": now() + DAY}, "Expires soon"),
        ({"expires_at": now() - 1}, "Expired"),
        ({"revoked_at": now()}, "Revoked"),
        ({"budget_limit": micro(5), "budget_used": micro(5)}, "Budget used up"),
    ],
)
def test_a_keys_status_says_why_it_does_not_work(values: dict[str, Any], status: str) -> None:
    assert row_of(details(**values), now()).status == status


def test_amounts_may_be_typed_as_people_write_them() -> None:
    taken = changes_of({**FORM, "budget": " ₹1,50,000.50 "}, scopes="", now=now())
    assert taken["budget_limit"] == micro("150000.50")
    assert "expires_at" in taken and taken["expires_at"] is None


@pytest.mark.parametrize("budget", ["NaN", "-1", "1e30", "Infinity", "12abc", "0x10"])
def test_amounts_that_are_none_are_refused(budget: str) -> None:
    with pytest.raises(WrongFields) as refused:
        changes_of({**FORM, "budget": budget}, scopes="", now=now())
    assert refused.value.sentences.keys() == {"budget"}


@pytest.mark.parametrize("junk", [None, 7, ["x", 1, None], {"a": "b"}, "\x00", "x" * 300])
def test_no_field_from_a_stranger_breaks_the_form(junk: Any) -> None:
    with pytest.raises(WrongFields) as refused:
        changes_of(dict.fromkeys(FORM, junk), scopes="", now=now())
    assert refused.value.sentences.keys() <= FORM.keys()


def test_saving_an_unchanged_form_changes_nothing() -> None:
    key = details(
        permissions="llm,tts",
        scopes="bots:read,usage:read",
        allowed_domains=("*.example.com", "example.com"),
        allowed_models=("gpt-4o",),
        rate_limit_rpm=120,
        budget_limit=micro("1500.25"),
    )
    draft = draft_of(key)
    form: Any = {
        "name": draft.name,
        "expiry": "keep",
        "budget": draft.budget,
        "rpm": draft.rpm,
        "domains": draft.domains,
        "permission": draft.permissions,
        "model": draft.models,
        "reads_usage": draft.reads_usage,
    }
    taken = changes_of(form, scopes=key.scopes, now=now())
    assert {name: getattr(key, name) for name in taken} == {
        name: tuple(value) if isinstance(value, list) else value for name, value in taken.items()
    }


def test_an_example_names_a_model_that_the_key_may_ask() -> None:
    offered = ["gpt-4o", "gpt-4.1", "local/smollm2-135m"]
    assert first_model(details(), offered) == "gpt-4o"
    assert first_model(details(allowed_models=("gpt-4.1",)), offered) == "gpt-4.1"
    assert first_model(details(kind="test"), offered) == "local/smollm2-135m"
