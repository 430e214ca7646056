"""ezadmin's agent: reads a host's figures, events and inventory, keeps them in a spool on disk and sends them to Kafka."""

__version__ = "0.1.0"
