"""Webhooks: other programs are told what changes."""
