"""Renderers: a result in, text or something that rich prints out. None of them prints, or asks a terminal."""
