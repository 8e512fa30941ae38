"""What Keyfob must reach, measured beside what it is compared with, in one run: `python -m benchmarks`."""
