import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.responses import Response

from api.db.engine import Database
from api.edge.client import client_ip, network_of
from api.edge.cookies import check_socket_origin, cookie_name, scrub_cookie, set_session
from api.settings import Settings
from api.tenants.signed_in import caller_of_cookie
from api.tenants.tokens import make_access_token, read_access_token, token_hash
from api.types import DAY, now
from tests.tenants.site import PASSWORD, Site, changed, mails, newest_code, open_site, register_body

AUTH = "/api/v1/auth"
ADDRESS = "asha@example.com"
FOREIGN_ORIGINS = [
    {},
    {"origin": "null"},
    {"origin": ""},
    {"origin": "https://evil.example"},
    {"origin": "http://127.0.0.1.evil.example"},
    {"origin": "http://127.0.0.1:1"},
    {"origin": "http://evil.example/http://127.0.0.1"},
]


@pytest.fixture
async def site(database: Database, settings: Settings) -> AsyncIterator[Site]:
    async with open_site(settings, database) as opened:
        yield opened


def cookie_of(answer: httpx2.Response) -> str:
    """The value of the session cookie an answer sets."""
    [found] = [line for line in answer.headers.get_list("set-cookie") if line.startswith("callmissed=")]
    return str(found.split(";")[0].removeprefix("callmissed="))


async def test_signing_up_over_http_has_the_published_shapes(site: Site) -> None:
    asked = await site.post(f"{AUTH}/register", register_body("Asha@Example.com"))
    body = asked.json()
    file = body.pop("mail_file")
    assert body == {"detail": "Verification code sent to your email.", "email": ADDRESS}
    assert Path(file).parent == site.settings.data_dir / "mail"
    code = newest_code(site.settings)
    assert code in Path(file).read_text()  # noqa: ASYNC240
    assert code not in asked.text
    made = await site.post(f"{AUTH}/register/verify", {"email": ADDRESS, "code": code})
    answer = made.json()
    assert made.headers["cache-control"] == "no-store"
    assert "set-cookie" not in made.headers
    tokens = answer.pop("access_token"), answer.pop("refresh_token")
    assert all(tokens)
    assert answer == {
        "token_type": "bearer",
        "two_factor_required": False,
        "challenge_token": None,
        "email": ADDRESS,
        "methods": [],
        "passkey_options": None,
        "is_new_user": True,
    }
    claims = read_access_token(site.secret, tokens[0], now=now())
    me = await site.client.get(f"{AUTH}/me", headers={"authorization": f"Bearer {tokens[0]}"})
    body = me.json()
    slug = body["tenant"].pop("slug")
    assert slug.startswith("asha-rao-")
    assert body == {
        "user": {
            "id": str(claims.user_id),
            "tenant_id": str(claims.tenant_id),
            "email": ADDRESS,
            "full_name": "Asha Rao",
            "phone_number": "",
            "role": "owner",
            "is_active": True,
        },
        "tenant": {
            "id": str(claims.tenant_id),
            "name": "Asha Rao's workspace",
            "plan": "self_hosted",
            "credit_balance": 1000.0,
            "is_active": True,
        },
    }


async def test_signing_in_refreshing_and_signing_out_with_tokens(site: Site) -> None:
    await site.sign_up()
    signed_in = await site.post(f"{AUTH}/login", {"email": "ASHA@example.com", "password": PASSWORD})
    assert (signed_in.status_code, signed_in.json()["is_new_user"]) == (200, False)
    refreshed = await site.post(f"{AUTH}/refresh", {"refresh_token": signed_in.json()["refresh_token"]})
    assert set(refreshed.json()) == {"access_token", "refresh_token", "token_type"}
    bearer = {"authorization": f"Bearer {refreshed.json()['access_token']}"}
    assert (await site.client.get(f"{AUTH}/me", headers=bearer)).status_code == 200
    for _ in range(2):
        out = await site.post(f"{AUTH}/logout", {"refresh_token": refreshed.json()["refresh_token"]})
        assert (out.status_code, out.json()) == (200, {"detail": "Logged out"})
    after = await site.client.get(f"{AUTH}/me", headers=bearer)
    assert (after.status_code, set(after.json())) == (401, {"detail", "code"})


async def test_an_access_token_alone_signs_out_too(site: Site) -> None:
    bearer = await site.bearer()
    assert (await site.post(f"{AUTH}/logout", headers=bearer)).status_code == 200
    assert (await site.client.get(f"{AUTH}/me", headers=bearer)).status_code == 401
    assert (await site.post(f"{AUTH}/logout", headers=bearer)).status_code == 200
    assert (await site.post(f"{AUTH}/logout", {})).status_code == 200


async def test_a_browser_is_signed_in_by_a_cookie_its_scripts_cannot_read(site: Site) -> None:
    made = await site.sign_up(by_cookie=True)
    assert (made.json()["access_token"], made.json()["refresh_token"]) == (None, None)
    [line] = [line for line in made.headers.get_list("set-cookie") if line.startswith("callmissed=")]
    flags = {part.strip().lower() for part in line.split(";")[1:]}
    assert {"httponly", "path=/", "samesite=lax"} <= flags
    assert "secure" not in flags
    assert not any(flag.startswith("domain") for flag in flags)
    me = await site.client.get(f"{AUTH}/me")
    assert me.json()["user"]["email"] == ADDRESS


async def test_over_tls_the_cookie_is_secure_and_bound_to_the_host(settings: Settings) -> None:
    public = changed(settings, public_url="https://console.example.com")
    response = Response()
    set_session(response, public, "token")
    line = response.headers["set-cookie"].lower()
    assert line.startswith("__host-callmissed=token;")
    assert all(flag in line for flag in ("secure", "httponly", "path=/", "samesite=lax"))
    assert "domain" not in line


async def test_cookie_sign_in_and_cookie_writes_need_our_own_origin(site: Site) -> None:
    await site.sign_up(by_cookie=True)
    for headers in FOREIGN_ORIGINS:
        for path, body in (
            (f"{AUTH}/register?session=cookie", register_body("x@example.com")),
            (f"{AUTH}/register/verify?session=cookie", {"email": ADDRESS, "code": "000000"}),
            (f"{AUTH}/otp/send?session=cookie", {"email": ADDRESS, "purpose": "register"}),
            (f"{AUTH}/login?session=cookie", {"email": ADDRESS, "password": PASSWORD}),
            (f"{AUTH}/logout", {}),
            ("/api/v1/keys", {"name": "stolen"}),
        ):
            refused = await site.post(path, body, headers=headers)
            assert (refused.status_code, refused.json()["code"]) == (403, "origin_not_allowed"), path
            assert "set-cookie" not in refused.headers
    assert (await site.client.get(f"{AUTH}/me")).status_code == 200, "reading needs no origin"
    assert (await site.post("/api/v1/keys", {"name": "mine"}, headers=site.origin)).status_code == 201
    localhost = {"origin": f"http://localhost:{site.settings.port}"}
    assert (await site.post("/api/v1/keys", {"name": "mine"}, headers=localhost)).status_code == 201


async def test_a_token_needs_no_origin(site: Site) -> None:
    bearer = await site.bearer()
    assert (await site.post("/api/v1/keys", {"name": "mine"}, headers=bearer)).status_code == 201


async def test_signing_out_clears_the_cookie_and_ends_the_session(site: Site) -> None:
    token = cookie_of(await site.sign_up(by_cookie=True))
    out = await site.post(f"{AUTH}/logout", {}, headers=site.origin)
    assert cookie_of(out) in ("", '""')
    assert "max-age=0" in out.headers["set-cookie"].lower()
    kept = {"cookie": f"callmissed={token}"}
    assert (await site.client.get(f"{AUTH}/me", headers=kept)).status_code == 401


@pytest.mark.parametrize(
    "authorization",
    ["Bearer cm_live_" + "0" * 36, "Bearer x", "Bearer", "Basic YTpi", "Bearer a.b.c", "é"],
)
async def test_keys_and_bad_tokens_are_401_even_beside_a_good_cookie(site: Site, authorization: str) -> None:
    await site.sign_up(by_cookie=True)
    headers = {"authorization": authorization.encode("latin-1")}
    for path in (f"{AUTH}/me", "/api/v1/keys"):
        refused = await site.client.get(path, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (401, "invalid_token")


async def test_an_expired_token_says_so(site: Site) -> None:
    token = (await site.sign_up()).json()["access_token"]
    claims = read_access_token(site.secret, token, now=now())
    old = make_access_token(site.secret, claims, now=now() - DAY - 1_000)
    refused = await site.client.get(f"{AUTH}/me", headers={"authorization": f"Bearer {old}"})
    assert (refused.status_code, refused.json()["code"]) == (401, "token_expired")


async def test_registering_says_the_same_for_a_known_address(site: Site) -> None:
    await site.sign_up()
    known = await site.post(f"{AUTH}/register", register_body(ADDRESS))
    new = await site.post(f"{AUTH}/register", register_body("ben@example.com"))
    for answer in (known, new):
        assert answer.status_code == 200
    assert set(known.json()) == set(new.json())
    assert known.json()["detail"] == new.json()["detail"]
    assert "already has an account" in mails(site.settings)[-2]


async def test_asking_for_another_code_says_the_same_for_every_address(site: Site) -> None:
    await site.post(f"{AUTH}/register", register_body(ADDRESS))
    remote = changed(site.settings, public_url="https://console.example.com")
    site.settings = remote  # no files are named to people elsewhere
    answers = [
        await site.post(f"{AUTH}/otp/send", {"email": address, "purpose": "register"})
        for address in (ADDRESS, "nobody@example.com")
    ]
    assert {answer.text for answer in answers} == {'{"detail":"If an account exists, a code has been sent."}'}
    made = await site.post(f"{AUTH}/register/verify", {"email": ADDRESS, "code": newest_code(site.settings)})
    assert made.status_code == 200


async def test_the_mails_file_is_named_only_on_a_machine_that_serves_itself_and_sends_no_mail(
    site: Site,
) -> None:
    for update in (
        {"public_url": "https://console.example.com"},
        {"host": "0.0.0.0"},
    ):
        site.settings = changed(site.settings, **update)
        answer = await site.post(f"{AUTH}/register", register_body(ADDRESS))
        assert set(answer.json()) == {"detail", "email"}
        assert newest_code(site.settings) not in answer.text


async def test_an_unknown_address_and_a_wrong_password_look_alike_over_http(site: Site) -> None:
    await site.sign_up()
    texts, times = set(), {ADDRESS: [0.0], "nobody@example.com": [0.0]}
    for _ in range(9):
        for address, taken in times.items():
            started = time.process_time()
            answer = await site.post(f"{AUTH}/login", {"email": address, "password": "wrong"})
            taken.append(time.process_time() - started)
            texts.add((answer.status_code, answer.text))
    assert texts == {(401, '{"detail":"Incorrect email or password.","code":"invalid_credentials"}')}
    known, unknown = (statistics.median(taken[1:]) for taken in times.values())
    assert abs(known - unknown) < 0.3 * max(known, unknown), times


@pytest.mark.parametrize(
    ("path", "limit", "body"),
    [
        ("register", 5, register_body("a{}@example.com")),
        ("register/verify", 10, {"email": "a{}@example.com", "code": "000000"}),
        ("login", 10, {"email": "a{}@example.com", "password": "x"}),
        ("refresh", 10, {"refresh_token": "cmr_" + "x" * 20}),
        ("logout", 10, {}),
        ("otp/send", 5, {"email": "a{}@example.com", "purpose": "register"}),
    ],
)
async def test_each_route_admits_one_address_as_often_as_published(
    site: Site, path: str, limit: int, body: dict[str, Any]
) -> None:
    statuses = []
    for turn in range(limit + 1):
        given = {key: value.format(turn) if isinstance(value, str) else value for key, value in body.items()}
        last = await site.client.post(f"{AUTH}/{path}", json=given)
        statuses.append(last.status_code)
    assert statuses.count(429) == 1
    assert statuses[-1] == 429
    assert 1 <= int(last.headers["retry-after"]) <= 60
    assert last.json()["code"] == "rate_limit_exceeded"
    site.wait(61)
    assert (await site.client.post(f"{AUTH}/{path}", json=body)).status_code != 429


async def test_passwords_of_one_account_are_tried_ten_times_a_quarter_hour_from_anywhere(
    database: Database, settings: Settings
) -> None:
    async with open_site(settings, database, behind_proxies=1) as site:
        await site.sign_up()
        right = {"email": ADDRESS, "password": PASSWORD}
        for turn in range(12):
            elsewhere = {"x-forwarded-for": f"203.0.113.{turn}"}
            assert (await site.client.post(f"{AUTH}/login", json=right, headers=elsewhere)).status_code == 200
        for address in (ADDRESS, "nobody@example.com"):
            statuses = []
            for turn in range(12):
                elsewhere = {"x-forwarded-for": f"198.51.100.{turn}"}
                wrong = {"email": address, "password": "wrong"}
                answer = await site.client.post(f"{AUTH}/login", json=wrong, headers=elsewhere)
                statuses.append(answer.status_code)
            assert statuses == [401] * 10 + [429] * 2
            site.wait(61)
        site.wait(900)
        assert (await site.client.post(f"{AUTH}/login", json=right)).status_code == 200


async def test_one_address_gets_three_mails_in_ten_minutes(site: Site) -> None:
    statuses = []
    for _ in range(4):
        site.wait(61)
        answer = await site.client.post(f"{AUTH}/register", json=register_body(ADDRESS))
        statuses.append(answer.status_code)
    assert statuses == [200, 200, 200, 429]
    assert len(mails(site.settings)) == 3


@pytest.mark.parametrize(
    ("hops", "said", "expected"),
    [
        (0, "203.0.113.9", "10.0.0.1"),
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "6.6.6.6, 203.0.113.9", "203.0.113.9"),
        (2, "6.6.6.6, 203.0.113.9, 10.1.1.1", "203.0.113.9"),
        (2, "203.0.113.9", "10.0.0.1"),
        (1, "not an address", "10.0.0.1"),
        (1, "2001:db8::1", "2001:db8::1"),
        (1, "", "10.0.0.1"),
    ],
)
def test_what_a_client_says_of_its_address_counts_only_from_our_own_proxies(
    hops: int, said: str, expected: str
) -> None:
    scope = {"client": ("10.0.0.1", 1), "headers": [(b"x-forwarded-for", said.encode())]}
    assert client_ip(scope, trusted_hops=hops) == expected


def test_an_ipv6_line_is_one_line() -> None:
    assert network_of("2001:db8:1:2:3:4:5:6") == network_of("2001:db8:1:2::1") == "2001:db8:1:2::"
    assert network_of("::ffff:203.0.113.9") == "203.0.113.9"
    assert network_of("203.0.113.9") == "203.0.113.9"


async def test_the_dashboard_sees_the_hash_of_the_cookie_which_opens_nothing(site: Site) -> None:
    token = cookie_of(await site.sign_up(by_cookie=True))
    for kind in ("http", "websocket"):
        for said in (
            f"callmissed={token}",
            f"a=1; callmissed={token}; b=2",
            f'callmissed="{token}"',
            f" callmissed = {token} ;callmissed={token}",
        ):
            scope = {"type": kind, "headers": [(b"cookie", said.encode()), (b"x", b"y"), (b"cookie", b"c=3")]}
            scrubbed = scrub_cookie(scope, site.settings)
            seen = b"; ".join(value for key, value in scrubbed["headers"] if key == b"cookie").decode()
            assert token not in seen
            assert token_hash(token) in seen
            assert ("b=2" in seen, "c=3" in seen) == ("b=2" in said, True)
            assert scope["headers"][0][1] == said.encode(), "the API still sees the token"
    caller = await caller_of_cookie(site.database, token_hash(token))
    assert caller is not None
    site.client.cookies.clear()
    stolen = {"cookie": f"callmissed={token_hash(token)}"}
    assert (await site.client.get(f"{AUTH}/me", headers=stolen)).status_code == 401
    again = scrub_cookie({"headers": [(b"cookie", stolen["cookie"].encode())]}, site.settings)
    twice = again["headers"][0][1].decode().removeprefix("callmissed=")
    assert await caller_of_cookie(site.database, twice) is None


def test_the_socket_opens_for_our_own_pages_only(settings: Settings) -> None:
    for headers in FOREIGN_ORIGINS:
        scope = {"headers": [(key.encode(), value.encode()) for key, value in headers.items()]}
        assert check_socket_origin(scope, settings) is False
    own = {"headers": [(b"origin", b"http://localhost:8000")]}
    assert check_socket_origin(own, settings) is True
    public = changed(settings, public_url="https://console.example.com")
    assert check_socket_origin(own, public) is False
    assert check_socket_origin({"headers": [(b"origin", b"https://console.example.com")]}, public) is True


def test_cookie_names_follow_the_address(settings: Settings) -> None:
    assert cookie_name(settings) == "callmissed"
    assert cookie_name(changed(settings, public_url="https://a.example")) == "__Host-callmissed"
