"""Mail: over SMTP when a server is set, else one file per message in `data/mail/`.

Over SMTP a message is queued and sent in the background, so that the time of an answer tells nothing about
whether mail went out. Bodies and addresses are never logged.
"""

import asyncio
import logging
import os
import secrets
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiosmtplib

from api.errors import unavailable
from api.settings import Settings
from api.types import now

log = logging.getLogger(__name__)

LONGEST_QUEUE = 1_000
WORKERS = 4
"""Messages handed over at a time, so that one slow recipient does not hold up the others."""
PAUSES = (1.0, 5.0, 25.0)
"""Seconds before each further try of a message the server could not take for now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A plain-text message to one address."""

    to: str
    subject: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpServer:
    """Where mail is handed over. `start_tls` None: used when the server offers it."""

    hostname: str
    port: int
    username: str | None
    password: str | None
    use_tls: bool
    start_tls: bool | None


class Mailer:
    """Sends mail; made by `open_mailer`, ended by `close`."""

    def __init__(self, *, sender: str, folder: Path, server: SmtpServer | None) -> None:
        self._sender, self._folder, self._server = sender, folder, server
        self._queue: asyncio.Queue[EmailMessage] = asyncio.Queue(LONGEST_QUEUE)
        self._workers: list[asyncio.Task[None]] = []

    async def send(self, mail: Mail) -> Path | None:
        """Without SMTP: the file that holds the message now. With SMTP: None, and the message is queued.

        Raises `ValueError` for a line break in a header, `service_unavailable` when the queue is full.
        """
        message = self._message(mail)
        if self._server is None:
            return await asyncio.to_thread(_write, self._folder, bytes(message))
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            raise unavailable("service_unavailable", "Mail cannot be sent right now.") from None
        if not self._workers:
            self._workers = [asyncio.create_task(self._deliver(self._server)) for _ in range(WORKERS)]
        return None

    async def close(self, *, patience: float = 10.0) -> None:
        """Hand over what is queued, for at most `patience` seconds, and stop."""
        if not self._workers:
            return
        try:
            await asyncio.wait_for(self._queue.join(), patience)
        except TimeoutError:
            log.error("mail was dropped at shutdown", extra={"messages": self._queue.qsize()})
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._workers = []

    def _message(self, mail: Mail) -> EmailMessage:
        message = EmailMessage()
        message["From"] = self._sender
        message["To"] = mail.to
        message["Subject"] = mail.subject
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=self._sender.rpartition("@")[2].rstrip("> "))
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(mail.text)
        return message

    async def _deliver(self, server: SmtpServer) -> None:
        while True:
            message = await self._queue.get()
            try:
                await _hand_over(server, message)
            finally:
                self._queue.task_done()


def open_mailer(settings: Settings) -> Mailer:
    """The mailer these settings ask for. Raises `ValueError` when `CALLMISSED_SMTP_URL` cannot be read."""
    url = settings.smtp_url.get_secret_value() if settings.smtp_url else ""
    server = parse_smtp_url(url) if url else None
    return Mailer(sender=settings.mail_from, folder=settings.data_dir / "mail", server=server)


def parse_smtp_url(url: str) -> SmtpServer:
    """The server of `smtp://user:password@host:587` (STARTTLS) or `smtps://…` (TLS from the start).

    A password is only ever sent over TLS. Raises `ValueError` without repeating the URL.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("CALLMISSED_SMTP_URL is not a URL.") from None
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
        raise ValueError("CALLMISSED_SMTP_URL must look like smtp://user:password@host:587 or smtps://….")
    secure = parts.scheme == "smtps"
    return SmtpServer(
        hostname=parts.hostname,
        port=port or (465 if secure else 587),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        use_tls=secure,
        start_tls=False if secure else (True if parts.username else None),
    )


async def _hand_over(server: SmtpServer, message: EmailMessage) -> None:
    """Give one message to the server, trying again while the fault may pass; a lost one is logged."""
    for pause in (*PAUSES, None):
        try:
            await aiosmtplib.send(
                message,
                hostname=server.hostname,
                port=server.port,
                username=server.username,
                password=server.password,
                use_tls=server.use_tls,
                start_tls=server.start_tls,
                timeout=20,
            )
            return
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            code = _smtp_code(error)
            if pause is None or code >= 500:
                log.error("mail was not delivered", extra={"fault": type(error).__name__, "smtp_code": code})
                return
            log.warning("mail is tried again", extra={"fault": type(error).__name__, "smtp_code": code})
        await asyncio.sleep(pause)


def _smtp_code(error: Exception) -> int:
    """The server's reply code; 5xx is final. 0 when there was no reply."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused) and error.recipients:
        return min(refused.code for refused in error.recipients)
    return error.code if isinstance(error, aiosmtplib.SMTPResponseException) else 0


def _write(folder: Path, content: bytes) -> Path:
    """Write one message so that a reader sees all of it or nothing."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{now()}-{secrets.token_hex(4)}.eml"
    draft = path.with_suffix(".tmp")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    draft.replace(path)
    return path
