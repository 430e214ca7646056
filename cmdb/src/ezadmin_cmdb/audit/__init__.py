"""The audit log: what was done, refused and tried, in a chain in which nothing can be changed unnoticed."""
