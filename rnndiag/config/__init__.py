"""Settings, thresholds and the config file."""
