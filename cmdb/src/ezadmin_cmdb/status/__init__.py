"""What is alive: the parts that ezadmin stands on, and its agents."""
