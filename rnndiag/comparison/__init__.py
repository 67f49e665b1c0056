"""Comparing reports: with a baseline, and two models with each other."""
