"""Tests of what is written down for production."""
