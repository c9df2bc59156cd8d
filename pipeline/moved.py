"""Lets an import of a renamed module fail with its new name.

The modules were renamed when `pipeline/`, `features/` and `models/` were divided into rooms.
Running an old name with `python -m` fails in the same way. docs/upgrading.md lists all renamed
modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "features.acoustics": "features.sound.blocks",
    "features.audio": "features.sound.extractor",
    "features.budget": "features.container.budget",
    "features.dynamics": "features.video.blocks",
    "features.encoder": "features.networks.onnx_network",
    "features.ending": "features.container.truncation",
    "features.export": "features.networks.export",
    "features.extent": "features.container.declared_size",
    "features.frames": "features.video.sampling",
    "features.libsndfile": "features.sound.sndfile_fallback",
    "features.lite0": "features.networks.lite0",
    "features.masking": "features.sound.masking",
    "features.musicnn": "tools.musicnn_export",
    "features.nal": "features.video.bitstream",
    "features.naming": "features.networks.extractor_name",
    "features.packaged": "features.networks.packaged",
    "features.patches": "features.sound.patches",
    "features.picture": "features.video.scaling",
    "features.pool": "features.workers.pool",
    "features.process": "features.workers.process",
    "features.sandbox": "features.workers.sandbox",
    "features.scan": "features.video.packet_scan",
    "features.second": "features.video.opencv_fallback",
    "features.starts": "features.video.keyframes",
    "features.tensorbundle": "tools.tensorbundle",
    "features.thumbnail": "features.workers.thumbnail",
    "features.timeline": "features.video.timeline",
    "features.torch_onnx": "features.networks.torch_onnx",
    "features.visual": "features.video.extractor",
    "features.wire": "features.workers.protocol",
    "features.worker": "features.workers.worker",
    "models.explanation": "models.pick_explanation",
    "models.history": "models.choice_set",
    "models.preparation": "models.setup",
    "models.processes": "models.distributed",
    "models.taught": "models.teacher_cache",
    "pipeline.airflow_running": "pipeline.orchestration.local_lock",
    "pipeline.backfill": "pipeline.extraction.backfill",
    "pipeline.by_hand": "pipeline.cli.select_days",
    "pipeline.catalog": "pipeline.lake.catalog",
    "pipeline.check": "pipeline.extraction.accounting",
    "pipeline.clips": "pipeline.extraction.clips",
    "pipeline.command_page": "tools.command_page",
    "pipeline.confounders": "pipeline.training.confounders",
    "pipeline.dataset": "pipeline.training.dataset",
    "pipeline.deletion": "pipeline.upkeep.erasure",
    "pipeline.documents": "tools.docs_pages",
    "pipeline.erased": "pipeline.upkeep.erasure_search",
    "pipeline.evaluate": "pipeline.training.evaluate",
    "pipeline.extract": "pipeline.extraction.extract",
    "pipeline.failures": "pipeline.extraction.failures",
    "pipeline.gate": "pipeline.training.gate",
    "pipeline.ingest": "pipeline.ingestion.ingest",
    "pipeline.landing": "pipeline.ingestion",
    "pipeline.local_airflow": "pipeline.orchestration.local_airflow",
    "pipeline.progress": "features.workers.progress",
    "pipeline.releases.commands": "pipeline.cli.releases",
    "pipeline.releases.continuity": "pipeline.publishing.continuity",
    "pipeline.releases.erasure": "pipeline.upkeep.erase_releases",
    "pipeline.releases.history": "pipeline.publishing.history",
    "pipeline.releases.model_card": "pipeline.publishing.model_card",
    "pipeline.releases.publish": "pipeline.publishing.publish",
    "pipeline.releases.sinks": "pipeline.publishing.sinks",
    "pipeline.reporting.alerts": "pipeline.orchestration.alerts",
    "pipeline.reporting.dag_runs": "pipeline.orchestration.dag_runs",
    "pipeline.reporting.data": "pipeline.reporting.facts",
    "pipeline.schemas": "pipeline.lake.schemas",
    "pipeline.sections": "pipeline.settings.sections",
    "pipeline.setting_names": "pipeline.settings.names",
    "pipeline.setting_values": "pipeline.settings.values",
    "pipeline.shards": "pipeline.extraction.shards",
    "pipeline.storage.access": "pipeline.storage.storage_errors",
    "pipeline.storage.parquet": "pipeline.storage.checked_parquet",
    "pipeline.storage.table_log": "pipeline.storage.delta_log_check",
    "pipeline.table": "pipeline.lake.table_spec",
}


class MovedModules(MetaPathFinder):
    """Rejects old names with a helpful error.

    It must be the last finder of `sys.meta_path`, so that it only sees names that no other finder
    has found.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return None for a name that is not an old one.

        Raises:
            ModuleNotFoundError: the module was renamed; the message has its new name.
        """
        if fullname in MOVED:
            raise ModuleNotFoundError(
                f"{fullname} is now {MOVED[fullname]} (docs/upgrading.md)", name=fullname
            )
        return None
