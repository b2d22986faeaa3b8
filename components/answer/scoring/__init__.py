"""scoring: what answers are worth against reference answers; each measure by its own rules or its own library."""
