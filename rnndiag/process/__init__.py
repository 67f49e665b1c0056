"""The life of this process: signals, cleanups and its parent process."""
