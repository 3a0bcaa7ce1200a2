"""What things are, and their rules. No I/O, no clock, no chance: those come in as arguments."""
