"""Whether the queries of today are still those that a release was made for: what it expects, and what was sampled."""
