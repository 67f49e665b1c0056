"""One file per format, and the registry of formats."""
