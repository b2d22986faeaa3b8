"""The flow as a table (flow.py), its runners (local.py, kubeflow.py), and the commands of a person (cli.py)."""
