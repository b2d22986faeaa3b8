"""Flags -> config -> job."""

from components.annotate.config import AnnotateConfig
from components.annotate.job import annotate
from components.shared.launch import launch

if __name__ == "__main__":
    launch("annotate", AnnotateConfig, annotate)
