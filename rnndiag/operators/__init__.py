"""Linear algebra that knows no recurrent net: batched structured operators, their norms, their products."""
