"""cluster: what both cluster targets (kubeflow.py, argo.py) say alike: images, names, secrets, and what they refuse."""
