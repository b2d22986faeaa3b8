"""cluster: what both cluster targets (kubeflow.py, argo.py) say alike (images, names, secrets, refusals), and what people carry there."""
