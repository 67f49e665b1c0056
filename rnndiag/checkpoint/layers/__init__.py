"""Named tensors to `RecurrentLayer`: spellings, shapes, gate order and layout."""
