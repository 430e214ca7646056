"""What agent, pipeline and cmdb must agree on. The docstrings of this package are the specification.

* :mod:`ezadmin_wire.names`    topics and indices, and what stands in them
* :mod:`ezadmin_wire.signing`  Ed25519 keys and what exactly is signed
* :mod:`ezadmin_wire.batch`    the batch of lines that travels in ``metrics``, ``logs``, ``state`` and ``jobs``
* :mod:`ezadmin_wire.ids`      host ids, epochs and event ids
* :mod:`ezadmin_wire.config`   signed config records (``config`` topic)
* :mod:`ezadmin_wire.state`    documents of the ``state`` topic (inventory, agent status)
* :mod:`ezadmin_wire.jobs`     documents of the ``jobs`` topic
* :mod:`ezadmin_wire.kafka`    the table ``[kafka]`` of all settings: TLS, sign-in, and why a broker does not answer
* :mod:`ezadmin_wire.times`    the one way to write a time
* :mod:`ezadmin_wire.levels`   the levels of events
"""

from ezadmin_wire.errors import WireError

__all__ = ["WireError"]
