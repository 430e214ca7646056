"""Commands to agents: what a person has them do, signed when he confirms it, and what becomes of it."""
