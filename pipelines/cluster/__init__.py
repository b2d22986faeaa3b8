"""cluster: what both cluster targets (kubeflow.py, argo.py) say alike: images, names, secrets, and what they refuse.

And what a person does there: copy files into a bucket, size a server.
"""
