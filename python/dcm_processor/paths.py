"""Paths below DATA: from text that somebody else has written to files that are really there, and the run's own.

    from dcm_processor.paths import inside_data, run_folder

    def callback(headers, **kwargs):
        return True, {"output": run_folder("nifti", headers)}          # "nifti/01M8...", relative to DATA

    def worker(jobName, added_params, **kwargs):
        folder = inside_data(added_params[jobName]["output"])           # /data/nifti/01M8..., a pathlib.Path
        folder.mkdir(parents=True, exist_ok=True)

Every refusal is an `UnsafePath`, a ValueError, whose text names the path and what is wrong with it.
"""

from __future__ import annotations

import os
import pathlib
import re

# For type checkers alone.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Mapping, Optional, Union

__all__ = ["UnsafePath", "belongs_to_run", "inside_data", "run_folder", "run_id", "run_names"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")
"""One part of a path that we make ourselves."""


class UnsafePath(ValueError):
    """A path that leads out of DATA, or could."""


def inside_data(path: Union[str, os.PathLike[str]], data: Union[str, os.PathLike[str], None] = None) -> pathlib.Path:
    """The absolute path of `path`, with all symbolic links followed. It need not exist.

    path: relative to DATA, or absolute and below it.
    data: in place of the DATA of the environment.

    Raises UnsafePath for `..`, for an absolute path that is not below DATA, for a symbolic link that leads out of it, and
    for DATA itself: nobody's output is the whole of it.
    """
    root = _root(data)
    parts = _parts(path, root)
    full = pathlib.Path(os.path.realpath(root.joinpath(*parts)))
    if full == root:
        raise UnsafePath(f"path {os.fspath(path)!r} is DATA itself; name a file or folder below it")
    if root not in full.parents:
        raise UnsafePath(f"path {os.fspath(path)!r} leads out of DATA through a symbolic link; write below DATA itself")
    return full


def relative_parts(path: Union[str, os.PathLike[str]], data: Union[str, os.PathLike[str], None] = None) -> tuple[str, ...]:
    """The names of `path` from DATA on, as they are written: no link has been followed. Raises UnsafePath as `inside_data`."""
    parts = _parts(path, _root(data))
    if not parts:
        raise UnsafePath(f"path {os.fspath(path)!r} is DATA itself; name a file or folder below it")
    return parts


def run_id(headers: Mapping[str, Any]) -> str:
    """The id of the run: the last part of `headers["dcmpath"]`. Raises UnsafePath when that cannot be the name of a folder."""
    path = headers.get("dcmpath")
    name = path.rstrip("/").rsplit("/", 1)[-1] if isinstance(path, str) else ""
    if not _NAME.match(name):
        raise UnsafePath(f"headers['dcmpath'] is {path!r}: its last part has to be the id of a run")
    return name


def run_folder(name: str, headers: Mapping[str, Any]) -> str:
    """The folder `<name>/<run>`, relative to DATA: what a service writes for this run alone. It is not made.

    name: what the service calls its outputs, `nifti` or `report/pages`: letters, digits, `.`, `_`, `-`, and `/` between.
    """
    parts = name.split("/") if isinstance(name, str) else []
    if not parts or not all(_NAME.match(part) for part in parts):
        raise UnsafePath(f"{name!r} cannot be a folder of outputs: take letters, digits, '.', '_', '-' and '/' between them")
    return "/".join([*parts, run_id(headers)])


def run_names(headers: Mapping[str, Any]) -> frozenset[str]:
    """What the folders and files of a run may be named by: its id, and Orthanc's ids of what it is about and of what is in
    that (of a series event its series; of a study event the study and its series)."""
    names = {run_id(headers)}
    if isinstance(headers.get("seriesId"), str):
        names.add(headers["seriesId"])
        return frozenset(names)
    names.add(headers.get("id"))
    names.update(headers.get("studyIds") or ())
    names.update(headers.get("seriesIds") or ())
    for study in headers.get("studies") or ():
        names.add(study.get("id"))
        names.update(series.get("id") for series in study.get("series") or ())
    # Short ones would be the beginning of too many names.
    return frozenset(name for name in names if isinstance(name, str) and len(name) >= 8)


def belongs_to_run(path: Union[str, os.PathLike[str]], headers: Mapping[str, Any]) -> bool:
    """Whether `path`, relative to DATA, is named by the run: one of its parts is one of `run_names`, or begins with one and
    goes on with something that is neither letter nor digit (`nifti/<series id>.nii.gz`, `out/<run>-1/x`)."""
    names = run_names(headers)
    return any(
        part == name or (part.startswith(name) and not part[len(name)].isalnum())
        for part in pathlib.PurePosixPath(os.fspath(path)).parts
        for name in names
    )


def _root(data: Optional[Union[str, os.PathLike[str]]]) -> pathlib.Path:
    text = os.fspath(data) if data is not None else os.environ.get("DATA", "")
    if not text:
        raise UnsafePath("DATA is not set in the environment; it is the folder that paths are relative to")
    return pathlib.Path(os.path.realpath(text))


def _parts(path: Union[str, os.PathLike[str]], root: pathlib.Path) -> tuple[str, ...]:
    text = os.fspath(path)
    if not isinstance(text, str) or not text or "\0" in text:
        raise UnsafePath(f"{text!r} is not a path")
    pure = pathlib.PurePosixPath(text)
    if ".." in pure.parts:
        raise UnsafePath(f"path {text!r} has '..' in it; write it without")
    if not pure.is_absolute():
        return pure.parts
    # DATA may be a link itself; both of its names are meant.
    for base in (os.environ.get("DATA") or str(root), str(root)):
        try:
            return pure.relative_to(base).parts
        except ValueError:
            continue
    raise UnsafePath(f"path {text!r} is absolute and not below DATA; give it relative to DATA")
