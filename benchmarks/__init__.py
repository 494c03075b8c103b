"""Measurements beside what users would pick instead; never run by pytest."""
