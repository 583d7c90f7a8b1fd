"""Tests of the Jupyter Server extension, in real servers and with real dashboards."""
