"""Trust in what lies in a store: verify it, repair it, make one sample of it again."""
