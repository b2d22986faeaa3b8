"""judging: one query and its pool -> three-way labels; methods, prompts, ladder and parser, without any engine."""
