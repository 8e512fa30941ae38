"""Contract suites, a frozen clock and races: for tests, and for authors of stores."""
