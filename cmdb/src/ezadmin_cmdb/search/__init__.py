"""One search over all described models."""
