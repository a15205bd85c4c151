"""One open stream: states, reasons to end, position. No I/O and no clock."""
