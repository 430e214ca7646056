"""Hosts: what they are called, the keys they sign with, and what their agents say they are."""
