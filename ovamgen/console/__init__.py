"""What a person sees while a command works: log lines, bars, counts; always on stderr."""
