"""Packages: what is installed here, on the scheduler and on the workers, and what that means."""
