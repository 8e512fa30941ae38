"""Keyfob in the frameworks: glue. What is decided is decided below; each framework is imported by its own module alone."""
