"""Saved filters: what a list was asked (words, filters, order, columns), kept under a name, for oneself or for all."""
