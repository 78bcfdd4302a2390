"""A checkpoint to a repository of the hub, without what only going on with it needs."""

from __future__ import annotations

from pathlib import Path

from ARR_COC.loading import PROGRESS
from ARR_COC.Training.settings import SettingsError


class UploadError(Exception):
    """The run is done, but its checkpoint could not be uploaded."""


def check(repository: str) -> None:
    """Raise SettingsError if nothing can be uploaded under the login of this machine."""
    from huggingface_hub import HfApi

    try:
        HfApi().whoami()
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise SettingsError(
            f"hub_upload={repository}: cannot log in to the hub ({type(error).__name__}: {first}); "
            "set HF_TOKEN to a token that may write"
        ) from error


def upload(folder: Path, report: Path, repository: str) -> None:
    """Upload a checkpoint's folder, and the report's model card if there is one."""
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        api.create_repo(repository, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, ignore_patterns=[PROGRESS])
        if report.is_dir():
            api.upload_folder(repo_id=repository, folder_path=report)
    except Exception as error:
        raise UploadError(
            f"hub_upload={repository}: {type(error).__name__}: {error}. The run is done, and its "
            "checkpoint is where it was: start it again to upload it"
        ) from error
