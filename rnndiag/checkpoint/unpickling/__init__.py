"""The restricted unpickler: it imports and executes nothing."""
