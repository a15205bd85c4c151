"""Topic index, shared window, fan-out and timers of one process."""
