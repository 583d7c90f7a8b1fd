"""Tests of the command line, in this process, at a terminal and as processes of their own."""
