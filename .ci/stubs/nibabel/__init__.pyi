# nibabel types what it loads as an image without data, so that every use would need a cast:
# for mypy all of nibabel is untyped.
from typing import Any

def __getattr__(name: str) -> Any: ...
