"""ezadmin's agent: a host's figures, events and inventory, spooled on disk and sent to Kafka."""

__version__ = "0.1.0"
