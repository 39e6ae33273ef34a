"""What the store makes of ENOSPC and EIO at each of its writes: `make faults`."""
