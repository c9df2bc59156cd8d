"""Finds misspelt names of settings and describes invalid settings.

A setting has two names: a dotted one in the file (`landing.root`) and an environment variable
(`DEBCM_LANDING__ROOT`).
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

PREFIX = "DEBCM_"
# Variables with our prefix that are not settings: DEBCM_CONFIG, DEBCM_CACHE, DEBCM_HOME.
_OTHER_VARIABLES = ("CONFIG", "CACHE", "HOME")
# Kubernetes sets variables for every service in each pod. A service called debcm or debcm-ui makes
# DEBCM_SERVICE_HOST, DEBCM_UI_PORT=tcp://..., DEBCM_UI_PORT_80_TCP_ADDR and similar ones.
_KUBERNETES_VARIABLE = re.compile(
    r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_KUBERNETES_ADDRESS = re.compile(r"(tcp|udp|sctp)://\S+")
# difflib's ratio above which a name is offered as a correction.
_SIMILAR = 0.75


def unknown_variables(settings: type[BaseModel]) -> list[str]:
    """Return the environment variables that have our prefix but name no setting.

    pydantic-settings only looks up the variables it knows, so it ignores a misspelt one.

    Args:
        settings: the model of all settings.

    Returns:
        Their names in order, each with a suggestion if a setting has a similar name.
    """
    known = {name.upper() for name in (*settings.model_fields, *_OTHER_VARIABLES)}
    unknown = []
    for variable, value in sorted(os.environ.items()):
        name = variable.upper().removeprefix(PREFIX)
        if name == variable.upper() or name.split("__")[0] in known:
            continue
        if not _is_set_by_kubernetes(name, value):
            dotted = name.lower().replace("__", ".")
            unknown.append(f"{variable}{_suggestion(dotted, settings, variable)}")
    return unknown


def describe_errors(error: ValidationError, settings: type[BaseModel], file: Path | None) -> str:
    """Describe every invalid setting: its variable or file, its dotted name and what is wrong.

    Args:
        error: as pydantic raised it.
        settings: the model of all settings.
        file: the TOML file; None if there is none.
    """
    return "; ".join(
        describe_error(item["loc"], _message(item, settings), file) for item in error.errors()
    )


def describe_error(location: Sequence[int | str], message: str, file: Path | None) -> str:
    """Describe one invalid setting: its variable or file, its dotted name and what is wrong.

    Args:
        location: section and field.
        message: what is wrong.
        file: the TOML file; None if there is none.
    """
    return f"{_source(location, file)}{'.'.join(map(str, location))}: {message}"


def _message(item: Any, settings: type[BaseModel]) -> str:
    if item["type"] == "extra_forbidden":
        location = item["loc"]
        dotted = ".".join(map(str, location))
        return f"unknown{_suggestion(dotted, settings, _variable_of(location))}"
    return str(item["msg"]).removeprefix("Value error, ")


def _source(location: Sequence[int | str], file: Path | None) -> str:
    if variable := _variable_of(location):
        return f"${variable}: "
    return f"{file}: " if file else ""


def _variable_of(location: Sequence[int | str]) -> str:
    """Name of the environment variable that sets a field or a section around it, or ""."""
    for length in range(len(location), 0, -1):
        wanted = PREFIX + "__".join(map(str, location[:length])).upper()
        for variable in os.environ:
            if variable.upper() == wanted:
                return variable
    return ""


def _suggestion(name: str, settings: type[BaseModel], variable: str) -> str:
    similar = difflib.get_close_matches(name, list(_names(settings)), n=1, cutoff=_SIMILAR)
    if not similar:
        return ""
    meant = PREFIX + similar[0].replace(".", "__").upper() if variable else similar[0]
    return f" (did you mean {meant}?)"


def _names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all fields, including those of optional sections."""
    for name, field in model.model_fields.items():
        yield prefix + name
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _names(kind, f"{prefix}{name}.")


def _is_set_by_kubernetes(name: str, value: str) -> bool:
    if _KUBERNETES_VARIABLE.fullmatch(name):
        return True
    return bool(re.fullmatch(r"(\w+_)?PORT", name) and _KUBERNETES_ADDRESS.fullmatch(value))
