"""The machine: device, threads and memory."""
