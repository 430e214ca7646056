"""The control line: how the agent becomes known, is reached by the gateway, and does what signed commands say."""
