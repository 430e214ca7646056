"""Who may do what: permissions, roles, groups of hosts, teams and grants. Nothing is allowed that was not granted."""
