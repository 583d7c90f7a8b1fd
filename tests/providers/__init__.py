"""Tests of the providers, against real servers and processes."""
