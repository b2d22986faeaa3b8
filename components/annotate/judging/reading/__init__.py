"""reading: what parsing.py knows of a completion: its characters, its statements, and the words around a list."""
