"""Config records on their way from the database, their only origin, to the topic ``config``."""
