"""The folders for downloads (which may be deleted at any time) and for lasting data."""

import os
from pathlib import Path

import platformdirs

_APP = "service-facets"


def cache_dir() -> Path:
    """``FACETS_CACHE_DIR``, else the platform's cache folder. Not created here."""
    folder = os.environ.get("FACETS_CACHE_DIR")
    return Path(folder).expanduser().absolute() if folder else platformdirs.user_cache_path(_APP)


def data_dir() -> Path:
    """``FACETS_DATA_DIR``, else the platform's folder for a user's data. Not created here."""
    folder = os.environ.get("FACETS_DATA_DIR")
    return Path(folder).expanduser().absolute() if folder else platformdirs.user_data_path(_APP)
