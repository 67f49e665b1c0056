"""Many saved models through one ``concurrent.futures.Executor``: ``run.measure`` and what it takes."""
