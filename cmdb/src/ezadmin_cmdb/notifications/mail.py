"""One mail to a server that people typed in; its address is judged as that of a call."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from ezadmin_cmdb.webhooks.calls import SECONDS, Address, Answer, CallError, Network, resolve

PLAIN, START_TLS, TLS = "none", "starttls", "tls"
PORTS = {PLAIN: 25, START_TLS: 587, TLS: 465}


@dataclass(frozen=True)
class Server:
    """How mail is handed over. ``password`` is only sent over TLS."""

    host: str
    port: int
    security: str
    user: str | None = None
    password: str | None = None


class _Pinned(smtplib.SMTP):
    """A connection to an address that was judged; the certificate must be the name's."""

    def __init__(self, server: Server, address: Address) -> None:
        self._address, self._tls = address, server.security == TLS
        super().__init__(server.host, server.port, timeout=SECONDS)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        made = socket.create_connection((str(self._address), port), timeout)
        return ssl.create_default_context().wrap_socket(made, server_hostname=host) if self._tls else made


def message(
    sender: str, recipients: Sequence[str], subject: str, text: str, identity: str, time: datetime
) -> EmailMessage:
    """A mail. ``identity``: the same for each attempt, so that a mail that comes twice is known as one."""
    made = EmailMessage(policy=SMTP)
    made["From"] = sender
    made["To"] = ", ".join(recipients)
    made["Subject"] = " ".join(subject.split())
    made["Date"] = format_datetime(time)
    made["Message-ID"] = f"<{identity}@{sender.rpartition('@')[2]}>"
    made["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's absence answers it
    made.set_content(text)
    return made


def send(server: Server, mail: EmailMessage, recipients: Sequence[str], allowed: Iterable[Network]) -> Answer:
    """Hand a mail over; its answer's text names recipients that were refused while others were not. Raises CallError."""
    address = resolve(server.host, server.port, allowed)
    try:
        with _Pinned(server, address) as connection:
            if server.security == START_TLS:
                connection.starttls(context=ssl.create_default_context())
            if server.user:
                connection.login(server.user, server.password or "")
            refused = connection.send_message(mail, to_addrs=list(recipients))
    except smtplib.SMTPRecipientsRefused as error:
        raise CallError(f"{server.host} refuses the recipients: {_refusals(error.recipients)}") from error
    except smtplib.SMTPResponseException as error:
        said = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        raise CallError(f"{server.host} answers {error.smtp_code} {said}") from error
    except ssl.SSLError as error:
        raise CallError(f"TLS with {server.host}: {error.reason or error}") from error
    except (OSError, smtplib.SMTPException, ValueError) as error:
        raise CallError(f"{server.host} does not take the mail: {error or type(error).__name__}") from error
    return Answer(250, f"refused: {_refusals(refused)}" if refused else "")


def _refusals(refused: dict[str, tuple[int, bytes]]) -> str:
    return "; ".join(f"{who}: {code} {said.decode(errors='replace')}" for who, (code, said) in refused.items())
