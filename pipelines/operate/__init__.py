"""Runs on a cluster as a person works with them: submitted, scheduled, listed, watched; on Argo and Kubeflow alike."""
