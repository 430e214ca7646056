"""Work on many rows that is looked at before it is written: bulk changes, deletions, imports."""
