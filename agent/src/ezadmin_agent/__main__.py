"""``python -m ezadmin_agent`` is the command ``ezadmin-agent``."""

from ezadmin_agent.main import main

raise SystemExit(main())
