"""Keras files to named arrays, with the `h5py` library."""
