"""How the server runs as a process: it drains before it ends, and several workers can share one socket."""
