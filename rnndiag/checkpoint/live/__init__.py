"""Modules in memory: their weights in effect, their own forward, and whether both compute the same."""
