"""The whole corpus of hostile inputs."""

from __future__ import annotations

from hostile import bundles, exports, images, tables, texts

CASES = {
    case.name: case for module in (images, tables, texts, bundles, exports) for case in module.CASES
}
