"""The gateway: the one server that agents talk to. It holds their polls, takes their data, and hands out files."""
