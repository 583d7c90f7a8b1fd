"""The view model of panels."""
