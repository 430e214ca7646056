"""Who may do what in Kafka: users and rights of ezadmin's parts, and a user of its own for each host."""
