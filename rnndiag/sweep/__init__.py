"""Phase diagrams: random nets over a grid of conditions, many at a time."""
