"""Formats whose libraries are C code that was not made for hostile files, each parsed in a process of its own.

Nothing here imports torch: the process is started for one file, under limits of memory and time (``worker``),
and gives named arrays back in a form that can carry nothing else (``parsed``).
"""
