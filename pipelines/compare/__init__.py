"""What each ingredient of a recipe is worth and what it costs: arms that share every step in which they do not differ.

`arms` declares them, `planning` turns them into steps, `results` and `costs` read what the steps left, `page` shows it.
"""
