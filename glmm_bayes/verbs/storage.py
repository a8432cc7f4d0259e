"""Keep a fit in one file, and bring it back able to predict."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import pandas as pd
import xarray as xr

from glmm_bayes.errors import DataError, NotSupportedError, UnknownNameError
from glmm_bayes.families import is_registered
from glmm_bayes.families.mixture_of import family_of
from glmm_bayes.fit import Fit, ModeFit, PosteriorFit
from glmm_bayes.model import Model
from glmm_bayes.modes.again import ARRAYS, NUMBERS, found_before
from glmm_bayes.modes.monotone import hold
from glmm_bayes.modes.plain import plain
from glmm_bayes.priors import WHOLE, Prior, as_prior

FORMAT = 2  # 1 had posteriors only
HEADER, FRAME = "glmm_bayes", "fitted_rows"
PLAIN = (str, int, float, bool, type(None))


def save(fit: Fit, path: str | Path) -> None:
    """
    Keep a fit in one file: what was estimated, the model's arguments and the rows it used.

    The file is a zipped Zarr store, which `xarray.open_datatree` reads too. Of the context only
    the names are kept, of the fit's options only numbers, words and None.

    Raises
    ------
    NotSupportedError
        If the family is not in `gb.FAMILIES`, where `load` looks for it.
    DataError
        If a column holds objects that are neither numbers, words nor times.
    """
    import zarr

    path = Path(path)
    frame = _Columns.of(fit.model.design.rows.whole)
    header = _header(fit) | {"frame": frame.description}
    columns = {name: (["row"], values) for name, values in frame.arrays.items()}
    tree, told = KINDS[fit.kind].out(fit)
    header |= {"kind": fit.kind, **told}
    tree[FRAME] = xr.DataTree(xr.Dataset(columns | {"kept": (["row"], fit.model.design.rows.kept)}))
    tree.attrs = {**tree.attrs, HEADER: json.dumps(header)}
    files: dict[str, Any] = {}
    # Zarr writes metadata twice, which a zip cannot take back: hence by way of the memory.
    tree.to_zarr(zarr.storage.MemoryStore(files), zarr_format=3, consolidated=False)
    part = path.with_name(path.name + ".part")
    with ZipFile(part, "w") as target:
        for name, content in files.items():
            target.writestr(name, content.to_bytes())
    part.replace(path)


def load(path: str | Path, context: Mapping[str, Any] | None = None) -> Fit:
    """
    Bring back a fit that `save` kept.

    Parameters
    ----------
    context
        The objects that the model's formula names, if it had any.

    Raises
    ------
    DataError
        If the file is not there, is not a saved fit, or was written by a later version.
    UnknownNameError
        If the family is not registered, or an object of the context is missing.

    Notes
    -----
    `fit.model.data` then has the rows and columns that were used, and no others.
    """
    path = Path(path)
    tree = _opened(path)
    header = json.loads(tree.attrs.pop(HEADER))
    if header["format"] > FORMAT:
        raise DataError(
            f"The file {str(path)!r} was written by a later version of glmm_bayes (format "
            f"{header['format']}, this one reads up to {FORMAT}); update the package."
        )
    arrays = {str(name): column.to_numpy() for name, column in tree[FRAME].data_vars.items()}
    model = _model(header, arrays, dict(context or {}), path)
    return KINDS[header.get("kind", "posterior")].back(model, tree.drop_nodes(FRAME), header)


@dataclass(frozen=True)
class Kind:
    """
    What one kind of fit keeps.

    `out(fit)` gives a tree of its arrays, and what else the header has to tell; `back(model, tree,
    header)` the fit.
    """

    out: Callable[[Any], tuple[xr.DataTree, dict[str, Any]]]
    back: Callable[[Model, xr.DataTree, Mapping[str, Any]], Fit]


ABOUT = ("method", "seed", "elapsed", "options")
EFFECTS, VARIANCES, FACTORS = "effects_", "variances_", "factors_"


def _posterior_out(fit: PosteriorFit) -> tuple[xr.DataTree, dict[str, Any]]:
    return fit.idata.copy(), {}


def _posterior_back(model: Model, tree: xr.DataTree, header: Mapping[str, Any]) -> PosteriorFit:
    return PosteriorFit(model, tree, *(header[name] for name in ABOUT))


def _mode_out(fit: ModeFit) -> tuple[xr.DataTree, dict[str, Any]]:
    mode = fit.mode
    arrays = {name: np.asarray(getattr(mode, name)) for name in (*ARRAYS, "axes")}
    arrays |= {EFFECTS + name: b for name, b in mode.star_effects.items()}
    arrays |= {VARIANCES + name: v for name, v in mode.effect_variances.items()}
    factors = zip(mode.Lambdas, mode.factor.spread.Lambdas, strict=True)
    arrays |= {FACTORS + name: L for name, L in factors}
    numbers = {name: _plain(getattr(mode, name)) for name in NUMBERS}
    data = {k: ([f"{k}__{i}" for i in range(v.ndim)], v) for k, v in arrays.items()}
    tree = xr.DataTree.from_dict({"mode": xr.Dataset(data)})
    words = {name: list(getattr(mode, name)) for name in ("problems", "cautions", "notes")}
    told = words | {"strict": list(mode.coordinates.strict), "held": list(fit.model.held)}
    return tree, {"numbers": numbers | told}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _mode_back(model: Model, tree: xr.DataTree, header: Mapping[str, Any]) -> ModeFit:
    arrays = {str(name): a.to_numpy() for name, a in tree["mode"].data_vars.items()}
    names = [term.name for term in model.design.terms]
    if header["method"] != "map":
        model = plain(model)
    model = hold(model, header["numbers"]["held"])
    mode = found_before(
        model,
        header["numbers"],
        arrays,
        {name: arrays[EFFECTS + name] for name in names},
        {name: arrays[VARIANCES + name] for name in names},
        [arrays[FACTORS + name] for name in names],
    )
    return ModeFit(model, mode, *(header[name] for name in ABOUT))


KINDS = {
    "posterior": Kind(_posterior_out, _posterior_back),
    "mode": Kind(_mode_out, _mode_back),
}


def _header(fit: Fit) -> dict[str, Any]:
    model, rows = fit.model, fit.model.design.rows
    families = [part.family.origin for part in model.observed]
    for family in families:
        if not is_registered(family):
            raise NotSupportedError(
                f"A fit with the family {family.name!r} can be saved once it is registered: call "
                f"gb.add_family(family) before saving, and before loading."
            )
    names = [family.name for family in families]
    return {
        "format": FORMAT,
        "formula": list(model.formula.texts),
        "family": names if model.formula.is_several else names[0],
        "links": {param: link.name for param, link in model.links.items()},
        "priors": {key: _prior_out(as_prior(v, key)) for key, v in model.user_priors.items()},
        "missing": model.missing,
        "centering": {k: "centered" if c else "noncentered" for k, c in model.centering.items()},
        "context": list(model.context),
        "method": fit.method,
        "seed": int(fit.seed),
        "elapsed": float(fit.elapsed),
        "options": {k: v for k, v in fit.options.items() if isinstance(v, PLAIN)},
        "rows": {
            "total": rows.total,
            "missing": rows.missing,
            "unused_levels": rows.unused_levels,
        },
    }


def _prior_out(prior: Prior) -> dict[str, Any]:
    arguments = {
        name: _prior_out(v) if isinstance(v, Prior) else v if v is None else np.asarray(v).tolist()
        for name, v in prior.arguments.items()
    }
    return {"distribution": prior.distribution, "arguments": arguments}


def _prior_in(stored: Mapping[str, Any]) -> Prior:
    arguments = {
        name: _prior_in(v) if isinstance(v, dict) else v for name, v in stored["arguments"].items()
    }
    if stored["distribution"] == "Fixed":
        return Prior.fixed(stored["arguments"]["value"])
    if stored["distribution"] in WHOLE:
        return Prior.whole(stored["distribution"], arguments)
    return Prior(stored["distribution"], **arguments)


def _opened(path: Path) -> xr.DataTree:
    import zarr

    if not path.is_file():
        raise DataError(f"There is no file {str(path)!r}.")
    try:
        with zarr.storage.ZipStore(path, mode="r") as opened:
            store: Any = opened  # xarray takes Zarr's stores, but does not say so in its types
            tree = xr.open_datatree(store, engine="zarr", consolidated=False).load()
    except (BadZipFile, OSError, KeyError, ValueError) as error:
        raise _not_ours(path) from error
    if HEADER not in tree.attrs:
        raise _not_ours(path)
    return tree


def _not_ours(path: Path) -> DataError:
    return DataError(f"The file {str(path)!r} is not a fit that glmm_bayes saved, or is damaged.")


def _model(
    header: Mapping[str, Any], arrays: dict[str, np.ndarray], context: dict[str, Any], path: Path
) -> Model:
    absent = [name for name in header["context"] if name not in context]
    if absent:
        raise UnknownNameError(
            f"The formula of the fit in {str(path)!r} names {', '.join(map(repr, absent))}, which "
            f"no file can keep: gb.load(path, context={{{absent[0]!r}: …}})."
        )
    for name in np.atleast_1d(header["family"]):
        try:
            family_of(str(name))
        except UnknownNameError as error:
            raise UnknownNameError(
                f"The fit in {str(path)!r} has the family {str(name)!r}, which is not "
                f"registered: call gb.add_family(family) first."
            ) from error
    kept = arrays.pop("kept")
    frame = _Columns(header["frame"], arrays).frame()
    model = Model(
        header["formula"],
        frame,
        header["family"],
        link=header["links"],
        priors={key: _prior_in(prior) for key, prior in header["priors"].items()},
        context=context,
        missing=header["missing"],
        centering=header["centering"],
    )
    about = header["rows"]
    unused = {name: tuple(levels) for name, levels in about["unused_levels"].items()}
    rows = replace(
        model.design.rows,
        kept=kept,
        total=about["total"],
        missing=about["missing"],
        unused_levels=unused,
    )
    model.design = replace(model.design, rows=rows)
    return model


class _Columns:
    """A data frame as plain arrays and a description that JSON can hold."""

    def __init__(self, description: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.description = description
        self.arrays = arrays

    @classmethod
    def of(cls, frame: pd.DataFrame) -> "_Columns":
        index = frame.index.to_frame(index=False)
        arrays: dict[str, np.ndarray] = {}
        described: dict[str, list[Any]] = {}
        for part, table in (("columns", frame), ("index", index)):
            described[part] = []
            for k, (name, column) in enumerate(table.items()):
                arrays[f"{part}_{k}"], kind = _column_out(column, str(name))
                described[part].append(kind)
        names = list(map(str, frame.columns))
        index_names = [n if isinstance(n, PLAIN) else str(n) for n in frame.index.names]
        return cls({**described, "names": names, "index_names": index_names}, arrays)

    def frame(self) -> pd.DataFrame:
        parts = {
            part: [
                _column_in(self.arrays[f"{part}_{k}"], kind)
                for k, kind in enumerate(self.description[part])
            ]
            for part in ("columns", "index")
        }
        names = self.description["index_names"]
        if len(names) > 1:
            index = pd.MultiIndex.from_arrays(parts["index"], names=names)
        else:
            index = pd.Index(parts["index"][0], name=names[0])
        columns = zip(self.description["names"], parts["columns"], strict=True)
        return pd.DataFrame({name: c.set_axis(index) for name, c in columns}, index=index)


def _column_out(column: pd.Series, name: str) -> tuple[np.ndarray, dict[str, Any]]:
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        values, kind = _column_out(pd.Series(dtype.categories), name)
        categories = {"values": values.tolist(), "kind": kind}
        return column.cat.codes.to_numpy(), {"categories": categories, "ordered": dtype.ordered}
    if pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype):
        return np.asarray(column.tolist()), {"dtype": str(dtype)}
    if pd.api.types.is_datetime64_any_dtype(dtype) or pd.api.types.is_timedelta64_dtype(dtype):
        return column.astype("int64").to_numpy(), {"dtype": str(dtype)}
    codes, words = pd.factorize(column)
    if len({type(word) for word in words}) > 1 or not isinstance(words[0], PLAIN):
        raise DataError(
            f"The column {name!r} holds objects of type {type(words[0]).__name__}, or of several "
            f"types; make it numbers, words or times before fitting, to save the fit."
        )
    return codes, {"words": list(words), "dtype": str(dtype)}


def _column_in(values: np.ndarray, kind: Mapping[str, Any]) -> pd.Series:
    if "categories" in kind:
        stored = kind["categories"]
        categories = _column_in(np.asarray(stored["values"]), stored["kind"])
        made = pd.Categorical.from_codes(values, pd.Index(categories), ordered=kind["ordered"])
        return pd.Series(made)
    if "words" in kind:
        return pd.Series(kind["words"]).astype(kind["dtype"]).iloc[values].reset_index(drop=True)
    return pd.Series(values).astype(kind["dtype"])
