"""What a user waits for: a script that reads a small table, fits and prints, from its start."""
