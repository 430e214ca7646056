"""Threshold templates: limits of figures, where they are assigned, and what of it holds for a host, and why."""
