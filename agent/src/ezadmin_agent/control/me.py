"""Who this host is to the gateway now."""

from __future__ import annotations

from dataclasses import dataclass

from ezadmin_wire.signing import SigningKey


@dataclass
class Me:
    """``host`` and the ``key`` that it signs with. The key is set anew when it is rotated; threads read it each time."""

    host: str
    key: SigningKey
