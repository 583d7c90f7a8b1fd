"""Tests of packages here and there."""
