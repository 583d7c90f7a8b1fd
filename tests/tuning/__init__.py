"""What other sizes would take."""
