"""What our fits cost, beside the peers': `python -m benchmarks --help`."""
