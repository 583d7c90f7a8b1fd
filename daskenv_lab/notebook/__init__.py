"""What a notebook sees: the ``%daskenv`` magic and its completion."""
