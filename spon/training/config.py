"""Configuration of a run: TOML in, TOML out."""

from __future__ import annotations

import inspect
import json
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from spon.errors import SponError
from spon.files import replacing
from spon.nn.operator import OperatorNetwork
from spon.nn.processors import find_processor
from spon.training.settings import Training

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["RunConfig", "parse_override"]

Table = dict[str, Any]


@dataclass(frozen=True)
class RunConfig:
    """All that determines a run.

    Args:
        model: `processor`, the name of its class, and arguments of `OperatorNetwork` such as `transform`.
        processor: arguments of the processor.
        training: settings.
        device: "cpu", "cuda", "cuda:1".
        data: `path`, `fingerprint` and `samples` of the data; empty in a configuration for any data.

    Raises:
        SponError: an unknown key, or a value of another type; names what is allowed.
    """

    model: Table = field(default_factory=dict)
    processor: Table = field(default_factory=dict)
    training: Training = field(default_factory=Training)
    device: str = "cpu"
    data: Table = field(default_factory=dict)

    def __post_init__(self) -> None:
        name = self.model.get("processor", "Multigrid")
        network = _hints(OperatorNetwork, ("discretisation", "processor"))
        model = checked({"processor": name, **self.model}, {"processor": str, **network}, "model")
        processor = checked(self.processor, _hints(find_processor(name), ("discretisation",)), "processor")
        object.__setattr__(self, "model", model)
        object.__setattr__(self, "processor", processor)

    @classmethod
    def from_tables(cls, tables: Mapping[str, Any]) -> RunConfig:
        """Make a configuration from nested tables, as TOML has them."""
        hints = {"device": str, **dict.fromkeys(("data", "model", "processor", "training"), dict)}
        given = checked(tables, hints, "")
        settings = checked(given.pop("training", {}), get_type_hints(Training), "training")
        return cls(training=Training(**settings), **given)

    @classmethod
    def read(cls, path: str | Path) -> RunConfig:
        """Read a TOML file.

        Raises:
            SponError: no such file, no TOML, or what is in it.
        """
        return cls.from_tables(read_tables(path))

    def tables(self) -> Table:
        """Return nested tables of plain values, without what is None."""
        training = {f.name: getattr(self.training, f.name) for f in fields(Training)}
        all_of = {
            "device": self.device,
            "data": self.data,
            "model": self.model,
            "processor": self.processor,
            "training": training,
        }
        return {
            name: {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value
            for name, value in all_of.items()
        }

    def write(self, path: str | Path) -> None:
        """Write a TOML file, from which `read` makes an equal configuration."""
        lines = []
        for name, value in self.tables().items():
            if isinstance(value, dict):
                lines += ["", f"[{name}]", *(f"{_toml(k)} = {_toml_value(v)}" for k, v in value.items())]
            else:
                lines.append(f"{name} = {_toml_value(value)}")
        with replacing(path) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def differences(self, other: RunConfig) -> list[str]:
        """Return what this run has that another has not, without the device and the place of the data."""
        mine, theirs = _flat(self.tables()), _flat(other.tables())
        out = []
        for key in sorted({*mine, *theirs} - {"device", "data.path"}):
            if mine.get(key) != theirs.get(key):
                out.append(f"{key} = {mine.get(key, 'none')}, not {theirs.get(key, 'none')}")
        return out


def read_tables(path: str | Path) -> Table:
    """Read a TOML file as nested tables.

    Raises:
        SponError: no such file, or no TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SponError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise SponError(f"{path}: not TOML: {error}") from error


def parse_override(text: str) -> tuple[str, str, Any]:
    """Split "training.learning_rate=3e-3" into table, key and value.

    Values are those of TOML; several with commas are a list, anything else is a string.

    Raises:
        SponError: no such form.
    """
    name, equals, value = text.partition("=")
    table, dot, key = name.partition(".")
    if not (equals and dot and table and key):
        raise SponError(f"'{text}'; allowed: TABLE.KEY=VALUE, such as training.learning_rate=3e-3")
    return table, key, _parsed(value)


def _parsed(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return [_parsed(part) for part in text.split(",")] if "," in text else text.strip()


def checked(values: Mapping[str, Any], hints: Mapping[str, Any], table: str) -> Table:
    """Return plain values of the types that are asked for; integers become floats where they should.

    Raises:
        SponError: an unknown key or another type.
    """
    out: Table = {}
    for key, value in values.items():
        name = f"{table}.{key}" if table else key
        if key not in hints:
            raise SponError(f"unknown setting '{name}'; allowed: {', '.join(hints) or 'none'}")
        try:
            out[key] = _converted(value, hints[key])
        except TypeError:
            raise SponError(f"{name} = {value!r}; allowed: {_words(hints[key])}") from None
    return out


def _converted(value: Any, hint: Any) -> Any:
    """The value as a hint wants it; TypeError if it cannot be."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        for option in arguments:
            try:
                return _converted(value, option)
            except TypeError:
                continue
    elif hint is type(None):
        if value is None or value == "none":
            return None
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif hint in (int, str, bool, dict):
        if type(value) is hint:
            return value
    elif inspect.isclass(origin) and issubclass(origin, Mapping):
        if isinstance(value, Mapping):
            return dict(value)
    elif inspect.isclass(origin) and issubclass(origin, Sequence) and isinstance(value, list | tuple):
        of = arguments[0] if arguments else Any
        return [_converted(v, of) for v in value]
    raise TypeError


_WORDS = {int: "integer", float: "number", str: "text", bool: "true or false", dict: "a table"}


def _words(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(option) for option in arguments if option in _WORDS or get_args(option)) + (
            " or none" if type(None) in arguments else ""
        )
    if inspect.isclass(origin) and issubclass(origin, Sequence):
        return f"list of {_words(arguments[0])}"
    return _WORDS.get(hint, str(hint))


def _hints(owner: type, without: tuple[str, ...]) -> dict[str, Any]:
    """Types of the arguments of a constructor, those without a hint as Any."""
    hints = get_type_hints(owner.__init__)  # type: ignore[misc]
    names = list(inspect.signature(owner).parameters)
    return {name: hints.get(name, Any) for name in names if name not in without}


def _flat(tables: Table) -> Table:
    out: Table = {}
    for name, value in tables.items():
        if isinstance(value, dict):
            out |= {f"{name}.{key}": v for key, v in value.items()}
        else:
            out[name] = value
    return out


def _toml(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else _toml_value(key)


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml_value(v) for v in value)}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml(k)} = {_toml_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, str):  # TOML's basic strings are those of JSON, but for DEL
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
