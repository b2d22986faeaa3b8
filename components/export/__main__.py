"""Flags -> config -> job."""

from components.export.config import ExportConfig
from components.export.job import export
from components.shared.launch import launch

if __name__ == "__main__":
    launch("export", ExportConfig, export)
