"""How good masks are: scored against human or exact masks, and methods beside each other."""
