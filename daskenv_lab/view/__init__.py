"""What a panel shows and does, without any widget: the notebook's and the browser's use it."""
