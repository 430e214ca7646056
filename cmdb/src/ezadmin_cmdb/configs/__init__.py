"""The part of the agents' configuration that is managed here: per group, merged for each host."""
