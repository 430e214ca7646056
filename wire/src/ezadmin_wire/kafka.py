"""How to reach Kafka: the table ``[kafka]`` of every part's settings, and what becomes of it for kafka-python.

No password stands in the settings: they name a file or an environment variable. Files are read again with every new
connection, so that a changed password or a renewed certificate needs no restart. Nothing here imports a Kafka client.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Optional

from ezadmin_wire import kafka_probe
from ezadmin_wire.errors import WireError
from ezadmin_wire.kafka_probe import why

PLAIN = "PLAIN"
MECHANISMS = (PLAIN, "SCRAM-SHA-256", "SCRAM-SHA-512")
_BROKER = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:,/\[\]]+):([0-9]{1,5})")


class Setting(NamedTuple):
    """A key of ``[kafka]``: ``want`` says what to write, ``about`` what it is for; ``sample`` stands in examples."""

    key: str
    kind: type
    default: Any
    want: str
    about: str
    sample: Any


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "bootstrap",
        str,
        None,
        'text, such as "kafka1:9092,kafka2:9092"',
        "Brokers, several with commas",
        "kafka1:9092,kafka2:9092",
    ),
    Setting("tls", bool, False, "true or false", "Encrypt, and check the brokers' certificates", True),
    Setting(
        "ca_file",
        str,
        None,
        "the path of a PEM file",
        "Certificates of the authority that signed the brokers'. Without it: those that the system trusts",
        "/etc/ezadmin/kafka-ca.pem",
    ),
    Setting(
        "check_hostname",
        bool,
        True,
        "true or false",
        "Whether a broker's certificate must be for the name that it is reached by",
        True,
    ),
    Setting(
        "certificate_file",
        str,
        None,
        "the path of a PEM file",
        "Own certificate, with the ones between it and the authority, for brokers that ask for one (mTLS)",
        "/etc/ezadmin/kafka.pem",
    ),
    Setting(
        "key_file", str, None, "the path of a PEM file", "Private key of certificate_file", "/etc/ezadmin/kafka.key"
    ),
    Setting(
        "key_password_file",
        str,
        None,
        "the path of a file",
        "File that holds the password of an encrypted key_file",
        "/etc/ezadmin/kafka.key.password",
    ),
    Setting("sasl", str, None, f"one of {', '.join(MECHANISMS)}", "How to sign in", "SCRAM-SHA-512"),
    Setting("user", str, None, "text", "User to sign in as", "ezadmin"),
    Setting(
        "password_file",
        str,
        None,
        "the path of a file",
        "File that holds the user's password",
        "/etc/ezadmin/kafka.password",
    ),
    Setting(
        "password_env",
        str,
        None,
        "the name of an environment variable",
        "Environment variable that holds the user's password, instead of a file",
        "EZADMIN_KAFKA_PASSWORD",
    ),
)
_BY_KEY = {setting.key: setting for setting in SETTINGS}


@dataclass(frozen=True)
class KafkaConnection:
    """A way to Kafka; the members are the keys of ``[kafka]``. Its text names no secret."""

    bootstrap: str
    tls: bool = False
    ca_file: Optional[str] = None
    check_hostname: bool = True
    certificate_file: Optional[str] = None
    key_file: Optional[str] = None
    key_password_file: Optional[str] = None
    sasl: Optional[str] = None
    user: Optional[str] = None
    password_file: Optional[str] = None
    password_env: Optional[str] = None

    @classmethod
    def parse(cls, table: Mapping[str, Any], where: str) -> KafkaConnection:
        """Check the decoded table ``[kafka]`` and the files it names; ``where`` names it in errors.

        Raises WireError (``bad_kafka``); the text names the key and what to write.
        """
        for key, value in table.items():
            if key == "password":
                raise _error(where, "a password does not stand in this file: write password_file or password_env")
            setting = _BY_KEY.get(key)
            if setting is None:
                raise _error(where, f"unknown setting {key!r}; known are {', '.join(sorted(_BY_KEY))}")
            if not isinstance(value, setting.kind) or value == "":
                raise _error(where, f"{key} = {value!r}: write {setting.want}")
        if "bootstrap" not in table:
            raise _error(where, 'bootstrap is missing or no text: write bootstrap = "host:port"')
        connection = cls(**table)
        connection.check(where)
        connection.check_files(where)
        return connection

    def check(self, where: str) -> None:
        """Whether the members fit together; looks at no file. Raises WireError (``bad_kafka``)."""
        if problem := brokers_problem(self.bootstrap):
            raise _error(where, f"bootstrap: {problem}")
        if not self.tls:
            for key in ("ca_file", "certificate_file", "key_file", "key_password_file"):
                if getattr(self, key) is not None:
                    raise _error(where, f"{key} is of no use without TLS: write tls = true")
        if self.key_file is not None and self.certificate_file is None:
            raise _error(where, "key_file is there, but no certificate_file")
        if self.certificate_file is not None and self.key_file is None:
            raise _error(where, "certificate_file is there, but no key_file")
        if self.key_password_file is not None and self.key_file is None:
            raise _error(where, "key_password_file is there, but no key_file")
        passwords = [key for key in ("password_file", "password_env") if getattr(self, key) is not None]
        if self.sasl is None:
            for key in ("user", *passwords):
                if getattr(self, key) is not None:
                    raise _error(where, f'{key} is of no use without sasl: write sasl = "SCRAM-SHA-512" or another')
        else:
            if self.sasl not in MECHANISMS:
                raise _error(where, f"sasl = {self.sasl!r}: write one of {', '.join(MECHANISMS)}")
            if self.sasl == PLAIN and not self.tls:
                raise _error(where, "sasl PLAIN shows the password to the network: write tls = true, or use SCRAM")
            if self.user is None:
                raise _error(where, f"user is missing: {self.sasl} signs in with a name and a password")
            if len(passwords) != 1:
                raise _error(where, "write either password_file or password_env")

    def check_files(self, where: str) -> None:
        """Whether the files and variables that are named can be used. Raises WireError (``bad_kafka``)."""
        try:
            self.options()
            self.tls_context()
        except WireError as error:
            raise _error(where, str(error)) from error

    @property
    def servers(self) -> list[str]:
        """The brokers of ``bootstrap``, each ``host:port``."""
        return [part.strip() for part in self.bootstrap.split(",")]

    def options(self) -> dict[str, Any]:
        """What kafka-python's constructors need to know, ``bootstrap_servers`` included; holds secrets: show it nobody.

        Raises WireError (``bad_kafka``) if a password cannot be read.
        """
        options: dict[str, Any] = {
            "bootstrap_servers": self.servers,
            "security_protocol": ("SASL_" if self.sasl else "") + ("SSL" if self.tls else "PLAINTEXT"),
        }
        if self.tls:
            options["ssl_check_hostname"] = self.check_hostname
            options["ssl_cafile"] = self.ca_file
            if self.certificate_file is not None:
                options["ssl_certfile"] = self.certificate_file
                options["ssl_keyfile"] = self.key_file
                options["ssl_password"] = self._key_password()
        if self.sasl is not None:
            options["sasl_mechanism"] = self.sasl
            options["sasl_plain_username"] = self.user
            options["sasl_plain_password"] = self._password()
        return options

    def _password(self) -> str:
        if self.password_env is not None:
            password = os.environ.get(self.password_env, "")
            if not password:
                raise WireError("bad_kafka", f"password_env: the environment variable {self.password_env} is not set")
            return password
        return read_secret(str(self.password_file), "password_file")

    def _key_password(self) -> str:
        # never None: OpenSSL would ask at the terminal for the password of an encrypted key
        return "" if self.key_password_file is None else read_secret(self.key_password_file, "key_password_file")

    def tls_context(self) -> Optional[ssl.SSLContext]:
        """What TLS is spoken with, None without TLS. Raises WireError (``bad_kafka``, ``bad_secret``) for its files."""
        if not self.tls:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = self.check_hostname
        try:
            if self.ca_file is None:
                context.load_default_certs()
            else:
                context.load_verify_locations(self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise WireError("bad_kafka", f"ca_file {self.ca_file}: {why(error)}") from error
        if self.certificate_file is not None:
            key_file = str(self.key_file)
            _guarded(key_file, "key_file")
            try:
                context.load_cert_chain(self.certificate_file, key_file, self._key_password())
            except (OSError, ssl.SSLError) as error:
                raise WireError(
                    "bad_kafka",
                    f"certificate_file {self.certificate_file} with key_file {key_file}: {why(error)}; "
                    "are both PEM, do they belong together, does key_password_file hold the key's password?",
                ) from error
        return context

    def probe(self, timeout: float = 5.0) -> dict[str, Optional[str]]:
        """What is wrong with each broker of ``bootstrap``, None where one can sign in: :mod:`ezadmin_wire.kafka_probe`.

        What is about who we are is a :class:`ezadmin_wire.kafka_probe.Refusal`. ``timeout`` in seconds, of each step.
        """
        found: dict[str, Optional[str]] = {}
        for server in self.servers:
            host, port = server.rsplit(":", 1)
            try:
                credentials = None
                if self.sasl is not None:
                    credentials = kafka_probe.Credentials(self.sasl, str(self.user), self._password())
                context = self.tls_context()
            except WireError as error:
                found[server] = kafka_probe.Refusal(error)
                continue
            found[server] = kafka_probe.probe(host.strip("[]"), int(port), context, credentials, timeout)
        return found

    def trouble(self, timeout: float = 3.0) -> str:
        """What is wrong with the brokers, in one line for a log; empty where one can sign in to all of them."""
        return "; ".join(f"{server}: {problem}" for server, problem in self.probe(timeout).items() if problem)

    def __str__(self) -> str:
        """Address, and how one gets in."""
        how = " over TLS" if self.tls else ""
        how += " with a certificate" if self.certificate_file else ""
        how += f" as {self.user} ({self.sasl})" if self.sasl else ""
        return self.bootstrap + how


def brokers_problem(bootstrap: str) -> Optional[str]:
    """What is wrong with a list of brokers, or None."""
    for broker in bootstrap.split(","):
        found = _BROKER.fullmatch(broker.strip())
        if found is None or not 0 < int(found[2]) < 65536:
            return f'{broker.strip()!r} is no broker; write "host:port"'
    return None


def read_secret(path: str, key: str) -> str:
    """The text of a file that holds one secret, without the line's end; ``key`` is the setting that names the file.

    Raises WireError (``bad_secret``) if it cannot be read, holds none, or everybody may read it.
    """
    _guarded(path, key)
    try:
        secret = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise WireError("bad_secret", f"{key} {path}: {why(error)}") from error
    except UnicodeDecodeError as error:
        raise WireError("bad_secret", f"{key} {path}: not UTF-8") from error
    if not secret or "\n" in secret:
        raise WireError("bad_secret", f"{key} {path}: write one line, the secret")
    return secret


def _guarded(path: str, key: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise WireError("bad_secret", f"{key} {path}: {why(error)}") from error
    if mode & 0o007:
        raise WireError("bad_secret", f"{key} {path} is open to everybody on this machine; run: chmod o= {path}")


def _error(where: str, text: str) -> WireError:
    return WireError("bad_kafka", f"{where}: {text}")
