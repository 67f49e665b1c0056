"""Measures of the recurrent weight alone: spectrum, initialization and goodness of fit."""
