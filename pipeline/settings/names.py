"""Names of settings, as a file and as the environment write them, and what a wrong one may mean."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

PREFIX = "DEBCM_"
# Variables of ours that are no settings.
_BESIDES = ("CONFIG", "CACHE", "HOME")
# Kubernetes tells every pod about each service: one called debcm or debcm-ui makes
# DEBCM_SERVICE_HOST, DEBCM_UI_PORT=tcp://..., DEBCM_UI_PORT_80_TCP_ADDR and more of that kind.
_OF_A_SERVICE = re.compile(
    r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://\S+")


def unknown_variables(settings: type[BaseModel]) -> list[str]:
    """Variables that look like settings and are none, each with the one it may stand for.

    pydantic-settings looks up the variables it knows and never sees a misspelt one.
    """
    known = {name.upper() for name in (*settings.model_fields, *_BESIDES)}
    unknown = []
    for variable, value in sorted(os.environ.items()):
        name = variable.upper().removeprefix(PREFIX)
        if name == variable.upper() or name.split("__")[0] in known:
            continue
        if not _tells_of_a_service(name, value):
            unknown.append(f"{variable}{_perhaps(_dotted(name), settings, variable)}")
    return unknown


def describe_errors(error: ValidationError, settings: type[BaseModel], file: Path | None) -> str:
    """Every fault of the settings: the variable or file that it stands in, its field, and what."""
    return "; ".join(
        f"{_origin(fault['loc'], file)}{'.'.join(map(str, fault['loc']))}: {_what(fault, settings)}"
        for fault in error.errors()
    )


def _what(fault: Any, settings: type[BaseModel]) -> str:
    if fault["type"] == "extra_forbidden":
        place = fault["loc"]
        return f"unknown{_perhaps('.'.join(map(str, place)), settings, _variable_of(place))}"
    return str(fault["msg"]).removeprefix("Value error, ")


def _origin(place: Sequence[int | str], file: Path | None) -> str:
    if variable := _variable_of(place):
        return f"${variable}: "
    return f"{file}: " if file else ""


def _variable_of(place: Sequence[int | str]) -> str:
    for length in range(len(place), 0, -1):
        wanted = PREFIX + "__".join(map(str, place[:length])).upper()
        for variable in os.environ:
            if variable.upper() == wanted:
                return variable
    return ""


def _perhaps(name: str, settings: type[BaseModel], variable: str) -> str:
    near = difflib.get_close_matches(name, list(_names(settings)), n=1, cutoff=0.75)
    if not near:
        return ""
    meant = PREFIX + near[0].replace(".", "__").upper() if variable else near[0]
    return f" (did you mean {meant}?)"


def _names(model: type[BaseModel], before: str = "") -> Iterator[str]:
    """Dotted names of all fields, those of sections and of optional sections within included."""
    for name, field in model.model_fields.items():
        yield before + name
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _names(kind, f"{before}{name}.")


def _dotted(name: str) -> str:
    return name.lower().replace("__", ".")


def _tells_of_a_service(name: str, value: str) -> bool:
    if _OF_A_SERVICE.fullmatch(name):
        return True
    return bool(re.fullmatch(r"(\w+_)?PORT", name) and _SERVICE_ADDRESS.fullmatch(value))
