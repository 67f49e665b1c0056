"""Renderers: a report in, something to print out. None of them prints, or asks a terminal."""
