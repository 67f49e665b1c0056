"""The checkpoints of one run in training order: every measure over training, and where the run is heading."""

from __future__ import annotations

from rnndiag.trend.build import trend
from rnndiag.trend.data import Alarm, Change, Place, Point, Trend
from rnndiag.trend.order import Order, OrderBy

__all__ = ["Alarm", "Change", "Order", "OrderBy", "Place", "Point", "Trend", "trend"]
