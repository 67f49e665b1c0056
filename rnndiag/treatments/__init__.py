"""Changes of a model or of its training that may help, one per file; ``registry`` lists them."""
