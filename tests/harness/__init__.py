"""What the tests share: a real hearthd, a plain HTTP client, and a search for what was left over."""
