"""What enrolment left on this host."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from ezadmin_agent.control import files
from ezadmin_agent.identity import IdentityError
from ezadmin_wire.enrolment import KafkaAccess
from ezadmin_wire.errors import WireError
from ezadmin_wire.fields import dump, load

ACTIVE, QUARANTINED, REVOKED, RETIRED = "active", "quarantined", "revoked", "retired"


@dataclass(frozen=True)
class Enrolment:
    """``enrolment.json``: how this host is known, and where. ``ca``: PEM of the gateway's authority, None: a public one.

    ``kafka``: access of its own, with ``ca`` and ``password``; None: data goes through the gateway. ``state`` is what the
    gateway said last. ``command_keys``: public keys that commands must be signed with.
    """

    host: str
    gateway: str
    prefix: str
    state: str = ACTIVE
    command_keys: list[str] = field(default_factory=list)
    ca: Optional[str] = None
    proxy: Optional[str] = None
    kafka: Optional[KafkaAccess] = None

    def save(self, state_dir: Path) -> None:
        """Write it, and the files that the connection to Kafka reads. Raises OSError."""
        kafka = self.kafka or KafkaAccess("")
        for path, text in ((kafka_ca(state_dir), kafka.ca), (kafka_password(state_dir), kafka.password)):
            if text is None:
                files.remove(path)
            else:
                files.write(path, text.encode())
        files.write(file(state_dir), dump(self) + b"\n")


def file(state_dir: Path) -> Path:
    """Where the enrolment stands."""
    return state_dir / "enrolment.json"


def kafka_ca(state_dir: Path) -> Path:
    """PEM of the brokers' authority."""
    return state_dir / "kafka-ca.pem"


def kafka_password(state_dir: Path) -> Path:
    """The password of this host at the brokers."""
    return state_dir / "kafka-password"


def read(state_dir: Path) -> Optional[Enrolment]:
    """The enrolment of this host; None if there is none. Raises IdentityError for one that cannot be read."""
    path = file(state_dir)
    try:
        return load(Enrolment, path.read_bytes())
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise IdentityError(f"{path} is not readable by this user; run it as the agent's user") from error
    except (OSError, WireError) as error:
        raise IdentityError(f"{path}: {error}. Remove it and enrol again") from error
