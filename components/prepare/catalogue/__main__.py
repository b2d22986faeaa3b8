"""Flags -> config -> job."""

from components.prepare.catalogue.config import CatalogueConfig
from components.prepare.catalogue.job import fetch_collection
from components.shared.launch import launch

if __name__ == "__main__":
    launch("prepare.catalogue", CatalogueConfig, fetch_collection)
