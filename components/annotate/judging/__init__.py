"""judging: one query and its pool -> three-way labels; methods, prompts, the ladder and the parser, without any engine."""
