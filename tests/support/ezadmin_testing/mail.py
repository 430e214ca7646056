"""A real SMTP server that keeps what it gets."""

from __future__ import annotations

import socket
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult


class MailServer:
    """A real SMTP server that keeps the mails it gets; ``refuse``: what it answers instead."""

    def __init__(self, **options: Any) -> None:
        self.mails: list[EmailMessage] = []
        self.refuse: str | None = None
        self.users: list[tuple[bytes, bytes]] = []
        outer = self

        class Handler:
            async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
                if outer.refuse:
                    return outer.refuse
                mail = message_from_bytes(envelope.content, policy=policy.default)
                assert isinstance(mail, EmailMessage)
                outer.mails.append(mail)
                return "250 taken"

        def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
            outer.users.append((data.login, data.password))
            return AuthResult(success=data.password == b"good secret", handled=False)

        self._controller = Controller(Handler(), hostname="127.0.0.2", port=0, authenticator=authenticate, **options)
        self._controller.port = _free_port()
        self._controller.start()
        self.port = self._controller.port

    def close(self) -> None:
        self._controller.stop()


def _free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.2", 0))
        return int(made.getsockname()[1])
