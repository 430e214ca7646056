"""From what programs write to events: levels, times and shapes of lines, as the agent and the pipeline read them."""
