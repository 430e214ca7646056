"""A copy of the whole database in a file, and the database of such a file."""
