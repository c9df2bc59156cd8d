"""Where a lake lies: local folders and object storage, and what shows damage in either."""
