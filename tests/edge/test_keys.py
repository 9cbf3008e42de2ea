import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.db.engine import Database
from api.errors import ApiError
from api.settings import Settings
from api.types import new_id
from tests.tenants.site import Site, open_site, register_body

KEYS = "/api/v1/keys"
AUTH = "/api/v1/auth"
FIELDS = {
    "id",
    "name",
    "kind",
    "hint",
    "permissions",
    "scopes",
    "allowed_domains",
    "is_active",
    "logs_enabled",
    "prompt_logging_enabled",
    "budget_limit",
    "budget_used",
    "budget_remaining",
    "rate_limit_rpm",
    "allowed_models",
    "created_at",
    "expires_at",
    "revoked_at",
    "last_used_at",
}


@pytest.fixture
async def site(database: Database, settings: Settings) -> AsyncIterator[Site]:
    async with open_site(settings, database) as opened:
        yield opened


async def works(site: Site, text: str) -> bool:
    try:
        await site.keys.caller(text)
    except ApiError:
        return False
    return True


async def test_a_new_key_allows_everything_and_shows_its_text_once(site: Site) -> None:
    me = await site.bearer()
    made = await site.post(KEYS, {"name": "  Website  "}, headers=me)
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    body = made.json()
    text = body.pop("key")
    assert set(body) == FIELDS
    created = datetime.fromisoformat(body.pop("created_at"))
    assert abs(datetime.now(UTC) - created) < timedelta(seconds=30)
    key_id = body.pop("id")
    assert body == {
        "name": "Website",
        "kind": "live",
        "hint": f"cm_live_…{text[-4:]}",
        "permissions": "*",
        "scopes": "",
        "allowed_domains": "*",
        "is_active": True,
        "logs_enabled": False,
        "prompt_logging_enabled": False,
        "budget_limit": None,
        "budget_used": 0.0,
        "budget_remaining": None,
        "rate_limit_rpm": None,
        "allowed_models": "*",
        "expires_at": None,
        "revoked_at": None,
        "last_used_at": None,
    }
    assert await works(site, text)
    for path in (KEYS, f"{KEYS}/{key_id}"):
        shown = await site.client.get(path, headers=me)
        assert shown.status_code == 200
        assert text not in shown.text
        assert text[8:-4] not in shown.text


async def test_a_key_takes_every_documented_limit_as_text_or_as_lists(site: Site) -> None:
    me = await site.bearer()
    limits: dict[str, Any] = {
        "name": "Limited",
        "permissions": "stt, llm",
        "scopes": ["usage:read"],
        "allowed_domains": "Example.com,*.münchen.de",
        "allowed_models": ["local/a", "gpt-5"],
        "rate_limit_rpm": 5,
        "budget_limit": 12.345678,
        "logs_enabled": True,
        "prompt_logging_enabled": True,
        "expires_in_days": 365,
        "kind": "test",
    }
    made = (await site.post(KEYS, limits, headers=me)).json()
    assert made["key"].startswith("cm_test_")
    assert (made["permissions"], made["scopes"]) == ("llm,stt", "usage:read")
    assert made["allowed_domains"] == "*.xn--mnchen-3ya.de,example.com"
    assert made["allowed_models"] == "gpt-5,local/a"
    assert (made["rate_limit_rpm"], made["budget_limit"], made["budget_remaining"]) == (
        5,
        12.345678,
        12.345678,
    )
    left = datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=364, hours=23) < left <= timedelta(days=365)
    again = {name: made[name] for name in ("permissions", "scopes", "allowed_domains", "allowed_models")}
    kept = await site.client.patch(f"{KEYS}/{made['id']}", json=again, headers=me)
    assert {name: kept.json()[name] for name in again} == again, "what is shown may be sent back"


async def test_a_change_touches_only_what_it_names(site: Site) -> None:
    me = await site.bearer()
    made = (
        await site.post(
            KEYS, {"name": "a", "rate_limit_rpm": 5, "budget_limit": 9, "expires_in_days": 1}, headers=me
        )
    ).json()
    path = f"{KEYS}/{made['id']}"
    renamed = (await site.client.patch(path, json={"name": "b"}, headers=me)).json()
    assert {**renamed, "name": "a"} == {key: value for key, value in made.items() if key != "key"}
    freed = (
        await site.client.patch(
            path, json={"rate_limit_rpm": None, "budget_limit": None, "expires_at": None}, headers=me
        )
    ).json()
    assert (freed["rate_limit_rpm"], freed["budget_limit"], freed["expires_at"]) == (None, None, None)
    assert freed["name"] == "b"
    unchanged = (await site.client.patch(path, json={}, headers=me)).json()
    assert unchanged == freed


async def test_revoking_and_deleting_end_a_key_at_once(site: Site) -> None:
    me = await site.bearer()
    for verb, status in (("revoke", 200), ("delete", 204)):
        made = (await site.post(KEYS, {"name": verb}, headers=me)).json()
        assert await works(site, made["key"])
        path = f"{KEYS}/{made['id']}"
        ended = (
            await site.post(f"{path}/revoke", headers=me)
            if verb == "revoke"
            else await site.client.delete(path, headers=me)
        )
        assert ended.status_code == status
        assert not await works(site, made["key"])
    [left] = (await site.client.get(KEYS, headers=me)).json()
    assert (left["name"], left["is_active"], left["revoked_at"] is not None) == ("revoke", False, True)


async def test_rotation_keeps_the_old_text_for_a_day_unless_told_otherwise(site: Site) -> None:
    me = await site.bearer()
    made = (await site.post(KEYS, {"name": "a"}, headers=me)).json()
    path = f"{KEYS}/{made['id']}/rotate"
    first = await site.post(path, headers=me)
    assert (first.status_code, set(first.json())) == (200, FIELDS | {"key"})
    assert first.json()["hint"] != made["hint"]
    assert await works(site, made["key"])
    second = (await site.post(path, {"overlap_hours": 0}, headers=me)).json()
    assert [await works(site, text) for text in (made["key"], first.json()["key"], second["key"])] == [
        False,
        False,
        True,
    ]
    for hours in (-1, 169, 1.5, "x", None):
        refused = await site.post(path, {"overlap_hours": hours}, headers=me)
        assert refused.status_code == 422


async def test_the_rate_state_counts_calls_of_the_last_minute_and_calls_in_flight(site: Site) -> None:
    me = await site.bearer()
    made = (await site.post(KEYS, {"name": "a", "rate_limit_rpm": 5}, headers=me)).json()
    bucket = f"key:{made['id']}"
    for _ in range(2):
        await site.limiter.take(bucket, 5)
    await site.limiter.enter(bucket, 512)
    state = await site.client.get(f"{KEYS}/{made['id']}/rate-state", headers=me)
    assert state.json() == {
        "key_id": made["id"],
        "window_seconds": 60,
        "rate_limit_rpm": 5,
        "used": 2,
        "remaining": 3,
        "in_flight": 1,
        "in_flight_limit": 512,
    }


async def test_foreign_and_missing_keys_are_the_same_404_on_every_route(site: Site) -> None:
    owner, stranger = await site.bearer(), await site.bearer("ben@example.com")
    made = (await site.post(KEYS, {"name": "a"}, headers=owner)).json()
    for key_id in (made["id"], str(new_id())):
        path = f"{KEYS}/{key_id}"
        site.wait(3600)
        for answer in (
            await site.client.get(path, headers=stranger),
            await site.client.patch(path, json={"name": "mine"}, headers=stranger),
            await site.client.delete(path, headers=stranger),
            await site.client.post(f"{path}/rotate", headers=stranger),
            await site.client.post(f"{path}/revoke", headers=stranger),
            await site.client.get(f"{path}/rate-state", headers=stranger),
        ):
            assert (answer.status_code, answer.json()["detail"]) == (404, "API key not found")
    assert (await site.client.get(KEYS, headers=stranger)).json() == []
    assert await works(site, made["key"])


async def test_a_key_cannot_manage_keys_and_nobody_can_without_signing_in(site: Site) -> None:
    me = await site.bearer()
    made = (await site.post(KEYS, {"name": "a"}, headers=me)).json()
    path = f"{KEYS}/{made['id']}"
    for headers in ({}, {"authorization": f"Bearer {made['key']}"}, {"x-api-key": made["key"]}):
        for answer in (
            await site.client.get(KEYS, headers=headers),
            await site.client.post(KEYS, json={"name": "b"}, headers=headers),
            await site.client.get(path, headers=headers),
            await site.client.patch(path, json={"name": "b"}, headers=headers),
            await site.client.delete(path, headers=headers),
            await site.client.post(f"{path}/rotate", headers=headers),
            await site.client.post(f"{path}/revoke", headers=headers),
            await site.client.get(f"{path}/rate-state", headers=headers),
        ):
            assert answer.status_code == 401
            assert isinstance(answer.json()["detail"], str)


BAD_KEYS: list[dict[str, Any]] = [
    {},
    {"name": ""},
    {"name": "   "},
    {"name": "x" * 10_000},
    {"name": "a\r\nSet-Cookie: x=y"},
    {"name": "a\x00b"},
    {"name": "a\u202egnp.exe"},
    {"name": "\ud800"},
    {"name": None},
    {"name": 5},
    {"name": "a", "kind": "session"},
    {"name": "a", "permissions": "llm,root"},
    {"name": "a", "permissions": ["\ud800"]},
    {"name": "a", "scopes": "bots:*"},
    {"name": "a", "allowed_domains": "https://example.com"},
    {"name": "a", "allowed_domains": "example.com:8000"},
    {"name": "a", "allowed_domains": "ex ample.com"},
    {"name": "a", "allowed_domains": "*.com.*"},
    {"name": "a", "allowed_domains": "*."},
    {"name": "a", "allowed_domains": ["x" * 300]},
    {"name": "a", "allowed_models": ["x" * 201]},
    {"name": "a", "allowed_models": [f"m{n}" for n in range(201)]},
    {"name": "a", "allowed_models": ["a\nb"]},
    {"name": "a", "rate_limit_rpm": 0},
    {"name": "a", "rate_limit_rpm": -1},
    {"name": "a", "rate_limit_rpm": 10**20},
    {"name": "a", "rate_limit_rpm": 1.5},
    {"name": "a", "budget_limit": -0.000001},
    {"name": "a", "budget_limit": 10**12},
    {"name": "a", "budget_limit": 0.0000001},
    {"name": "a", "budget_limit": float("nan")},
    {"name": "a", "budget_limit": float("inf")},
    {"name": "a", "expires_in_days": 0},
    {"name": "a", "expires_in_days": 366},
    {"name": "a", "expires_at": "2020-01-01T00:00:00Z"},
    {"name": "a", "expires_at": "2099-01-01T00:00:00Z"},
    {"name": "a", "expires_at": "2027-01-01T00:00:00"},
    {"name": "a", "expires_at": "2027-01-01T00:00:00Z", "expires_in_days": 3},
    {"name": "a", "logs_enabled": "perhaps"},
]

BAD_SIGN_UPS: list[dict[str, Any]] = [
    {"accept_terms": False},
    {"accept_terms": None},
    {"full_name": "x" * 10_000},
    {"full_name": "A\r\nBcc: all@example.com"},
    {"full_name": ""},
    {"full_name": "\ud800"},
    {"email": "nobody"},
    {"email": "a@b"},
    {"email": "a@example.com\r\nBcc: b@example.com"},
    {"email": "a@example.com,b@example.com"},
    {"email": "Asha <a@example.com>"},
    {"email": "x" * 10_000 + "@example.com"},
    {"email": "\ud800@example.com"},
    {"email": "ａ@example.com"},
    {"password": "short"},
    {"password": "x" * 73},
    {"password": "\ud800" * 10},
    {"phone_number": "1" * 21},
    {"phone_number": "1\n2"},
    {"cf_turnstile_token": "x" * 2049},
]


async def test_bad_bodies_are_a_422_that_names_the_field_and_repeats_nothing(site: Site) -> None:
    me = await site.bearer()
    for body in BAD_KEYS:
        site.wait(61)
        answer = await site.client.post(
            KEYS, content=json.dumps(body), headers={**me, "content-type": "application/json"}
        )
        assert answer.status_code == 422, (body, answer.text)
        problems = answer.json()["detail"]
        assert all(set(problem) == {"loc", "msg", "type"} for problem in problems)
        assert len(answer.text) < 1_000
    assert (await site.client.get(KEYS, headers=me)).json() == []
    for change in BAD_SIGN_UPS:
        site.wait(3600)
        answer = await site.client.post(
            f"{AUTH}/register",
            content=json.dumps(register_body("new@example.com", **change)),
            headers={"content-type": "application/json"},
        )
        assert answer.status_code == 422, (change, answer.text)
        assert [problem["loc"][1] for problem in answer.json()["detail"]] == list(change)


NOT_OBJECTS = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"x"',
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"name": ' + b"9" * 5_000 + b"}",
]


async def test_bodies_that_are_not_json_objects_are_refused_and_never_a_500(site: Site) -> None:
    me = await site.bearer()
    headers = {**me, "content-type": "application/json"}
    for content in NOT_OBJECTS:
        for path in (
            KEYS,
            *(f"{AUTH}/{name}" for name in ("register", "login", "refresh", "register/verify")),
        ):
            answer = await site.post(path, content=content, headers=headers)
            assert answer.status_code in (400, 422), (path, content[:20], answer.text)


async def test_fifty_keys_made_at_once_are_fifty_keys(site: Site) -> None:
    me = await site.bearer()
    made = await asyncio.gather(
        *(site.client.post(KEYS, json={"name": str(turn)}, headers=me) for turn in range(50))
    )
    assert {answer.status_code for answer in made} == {201}
    assert len({answer.json()["key"] for answer in made}) == 50
    assert len((await site.client.get(KEYS, headers=me)).json()) == 50
