import asyncio
import email
import logging
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from pydantic import SecretStr

from api.notify.mail import Mail, Mailer, open_mailer, parse_smtp_url
from api.settings import Settings
from tests.servers import free_port

MAIL = Mail(to="asha@example.com", subject="Your code", text="It is 123456.\nनमस्ते\n")


class Inbox:
    """A mail server that keeps what it is given, after the refusals it was told to give first."""

    def __init__(self, *refusals: str) -> None:
        self.refusals = list(refusals)
        self.messages: list[bytes] = []
        self.tries = 0

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:
        self.tries += 1
        if self.refusals:
            return self.refusals.pop(0)
        self.messages.append(envelope.content)
        return "250 OK"


@pytest.fixture
def serve() -> Iterator[Callable[[Inbox], str]]:
    running: list[Controller] = []

    def start(inbox: Inbox) -> str:
        controller = Controller(inbox, hostname="127.0.0.1", port=free_port())
        controller.start()
        running.append(controller)
        return f"smtp://127.0.0.1:{controller.port}"

    yield start
    for controller in running:
        controller.stop()


@pytest.fixture
async def mailer_to(settings: Settings) -> AsyncIterator[Callable[[str], Awaitable[Mailer]]]:
    opened: list[Mailer] = []

    async def make(url: str) -> Mailer:
        mailer = open_mailer(settings.model_copy(update={"smtp_url": SecretStr(url)}))
        opened.append(mailer)
        return mailer

    yield make
    for mailer in opened:
        await mailer.close(patience=0.1)


def text_of(raw: bytes) -> str:
    body = email.message_from_bytes(raw).get_payload(decode=True)
    assert isinstance(body, bytes)
    return body.decode().replace("\r\n", "\n")


async def test_without_smtp_each_mail_is_a_whole_file_for_its_owner_only(settings: Settings) -> None:
    mailer = open_mailer(settings)
    folder = settings.data_dir / "mail"
    paths = await asyncio.gather(*(mailer.send(MAIL) for _ in range(20)))
    assert len(set(paths)) == 20
    for path in paths:
        assert isinstance(path, Path)
        assert (path.parent, path.suffix, stat.S_IMODE(path.stat().st_mode)) == (folder, ".eml", 0o600)
        message = email.message_from_bytes(path.read_bytes())
        assert (message["To"], message["Subject"]) == ("asha@example.com", "Your code")
        assert message["From"] == "CallMissed <no-reply@localhost>"
        assert text_of(path.read_bytes()) == MAIL.text
    assert sorted(folder.iterdir()) == sorted(path for path in paths if path), "no drafts are left"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_with_smtp_the_mail_reaches_the_server_and_no_file_is_written(
    settings: Settings, serve: Callable[[Inbox], str], mailer_to: Any
) -> None:
    inbox = Inbox()
    mailer = await mailer_to(serve(inbox))
    assert await mailer.send(MAIL) is None
    await mailer.close()
    [raw] = inbox.messages
    assert text_of(raw) == MAIL.text
    assert not (settings.data_dir / "mail").exists()


async def test_a_mail_refused_for_now_is_tried_again(serve: Callable[[Inbox], str], mailer_to: Any) -> None:
    inbox = Inbox("451 come back later")
    mailer = await mailer_to(serve(inbox))
    await mailer.send(MAIL)
    await mailer.close()
    assert (len(inbox.messages), inbox.tries) == (1, 2)


async def test_a_mail_refused_for_good_is_logged_without_its_address_or_text(
    serve: Callable[[Inbox], str], mailer_to: Any, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = Inbox("550 no such person")
    mailer = await mailer_to(serve(inbox))
    with caplog.at_level(logging.INFO):
        await mailer.send(MAIL)
        await mailer.close()
    assert inbox.tries == 1
    [record] = [record for record in caplog.records if record.getMessage() == "mail was not delivered"]
    assert record.__dict__["smtp_code"] == 550
    everything = " ".join(str(record.__dict__) for record in caplog.records if record.name.startswith("api"))
    assert "asha@" not in everything
    assert "123456" not in everything


async def test_sending_does_not_wait_for_the_server(mailer_to: Any) -> None:
    mailer = await mailer_to(f"smtp://127.0.0.1:{free_port()}")  # nobody answers there
    await asyncio.wait_for(mailer.send(MAIL), 0.2)


async def test_a_password_is_never_sent_without_tls(serve: Callable[[Inbox], str], mailer_to: Any) -> None:
    inbox = Inbox()
    url = serve(inbox).replace("smtp://", "smtp://user:secret@")
    mailer = await mailer_to(url)
    await mailer.send(MAIL)
    await mailer.close(patience=0.5)
    assert inbox.tries == 0
    assert parse_smtp_url("smtp://user:p%40ss@mail.example.com").start_tls is True
    assert parse_smtp_url("smtp://user:p%40ss@mail.example.com").password == "p@ss"
    assert parse_smtp_url("smtps://mail.example.com").use_tls is True
    assert (parse_smtp_url("smtps://mail.example.com").port, parse_smtp_url("smtp://a").port) == (465, 587)


@pytest.mark.parametrize("url", ["http://user:secret@a", "smtp://", "secret", "smtp://user:secret@a:99999"])
def test_an_unreadable_server_address_is_refused_without_repeating_it(settings: Settings, url: str) -> None:
    with pytest.raises(ValueError, match="CALLMISSED_SMTP_URL") as refused:
        open_mailer(settings.model_copy(update={"smtp_url": SecretStr(url)}))
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("field", ["to", "subject"])
async def test_no_header_can_be_smuggled_into_a_mail(settings: Settings, field: str) -> None:
    given = {"to": "a@example.com", "subject": "Hello", "text": "x", field: "x\r\nBcc: all@example.com"}
    with pytest.raises(ValueError, match=r"(?i)linefeed|newline|header"):
        await open_mailer(settings).send(Mail(**given))
