"""The model card of a release, in Markdown, from its manifest and metrics.json."""

from __future__ import annotations

from typing import Any

from pipeline.release_files import Manifest


def model_card(manifest: Manifest, metrics: dict[str, Any]) -> str:
    """Write the card.

    Args:
        manifest: of the release.
        metrics: metrics.json of the release.
    """
    return "\n".join([manifest.release_id, str(sorted(metrics))]) + "\n"
