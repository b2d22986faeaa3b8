"""engines: which program computes a graph, in which precision: what each can do, what is fast here, what was proven."""
