"""Files and bytes on disk, without torch: zip, npy, stable reads, atomic writes, the work budget."""
