"""What theory says of random nets: mean fields, random matrices, laws of initialization."""
