"""commands: what a command of `retriever` does that no component and no runner does; cli.py reads flags and calls them.

Reads: settings, work folders, a running server. Writes: label files, queries, quotes on stdout.
Needs: nothing of its own. Guarantees: a reader's mistake is a sentence and an exit code, never a traceback.
"""
