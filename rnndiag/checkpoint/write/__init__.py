"""Changed tensors to a file that differs only there."""
