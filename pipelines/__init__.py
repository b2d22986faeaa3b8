"""The flow: as a Kubeflow pipeline (retriever.py), on this machine (local.py), and the commands of a person (cli.py)."""
