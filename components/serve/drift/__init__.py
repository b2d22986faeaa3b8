"""What the server notices of its queries: which are unlike those of the release, and a sample of all."""
