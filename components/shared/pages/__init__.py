"""pages: what every page that a person opens has in common: look, templates, charts."""
