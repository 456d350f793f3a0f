"""What a target's own metrics say, held against what is true of it."""
