"""The signer: the only process that has the key of commands. It imports neither the web application nor the database.

The web application asks it over a Unix socket, in the request in which a person confirms. Who can write the database, but
is not the web application, gets nothing signed.
"""
