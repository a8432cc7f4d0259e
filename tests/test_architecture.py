"""The way the data go, as a test: a room imports only from the rooms before it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "glmm_bayes"

# What a room may import from, besides itself.
LAYERS: dict[str, set[str]] = {
    room: set(allowed.split())
    for room, allowed in {
        "errors": "",
        "arrays": "errors",
        "taylor": "",
        "registry": "errors",
        "priors": "arrays errors registry",
        "formula": "errors registry",
        "data": "errors registry",
        "engine": "errors",
        "datasets": "errors registry",
        "view": "errors",
        "families": "arrays errors priors registry taylor view",
        "covariance": "arrays errors priors registry",
        "monotonic": "errors",
        "encoding": "data errors formula monotonic registry",
        "response": "data encoding errors formula view",
        "categories": "errors families formula registry response",
        "ordered": "covariance data encoding errors formula",
        "places": "covariance data encoding errors formula",
        "residual": "covariance data encoding errors formula ordered places",
        "terms": "covariance data encoding errors formula ordered places",
        "smooths": "covariance data encoding errors formula places registry terms",
        "unseen": "covariance data encoding errors formula",
        "unseen_reading": "covariance data encoding errors formula response unseen",
        "design": (
            "covariance data encoding errors formula monotonic registry residual response smooths "
            "terms unseen unseen_reading"
        ),
        "observed": "design errors families response",
        "several": ("data design encoding errors families formula observed registry response view"),
        "centering": "design errors families observed registry response terms",
        "parameters": (
            "covariance design errors families observed priors registry residual response terms "
            "unseen"
        ),
        "dependents": "design errors monotonic parameters priors",
        "model": (
            "arrays categories centering covariance data dependents design errors families formula "
            "observed parameters priors registry residual response several terms"
        ),
        "compile": (
            "arrays covariance dependents design draws errors families kriging model parameters "
            "predictive priors residual residual_draws response terms unseen_graph"
        ),
        "unseen_density": "engine families model unseen",
        "unseen_draws": "design draws model observed predictive unseen",
        "unseen_graph": "arrays design families model unseen",
        "density": (
            "arrays covariance dependents design draws engine errors families model parameters "
            "priors residual response terms unseen_density"
        ),
        "draws": (
            "covariance design engine errors families model parameters priors response terms unseen"
        ),
        "kriging": "covariance engine residual terms",
        "predictive": (
            "covariance data design draws errors families kriging model residual response terms "
            "unseen"
        ),
        "residual_draws": "design draws engine families kriging model predictive residual",
        "results": (
            "covariance data design draws errors families model predictive residual_draws "
            "response terms unseen_draws"
        ),
        "modes": (
            "covariance density design draws engine errors families kriging model observed "
            "parameters priors residual response taylor terms"
        ),
        "posthoc": (
            "covariance design draws engine errors families model modes parameters predictive "
            "priors response results terms"
        ),
        "fit": "design draws errors model modes response terms",
        "inference": (
            "compile density design draws engine errors families fit model modes parameters "
            "posthoc predictive priors registry residual response results terms unseen_density "
            "unseen_draws"
        ),
        "verbs": (
            "arrays covariance data density design draws encoding engine errors families fit "
            "formula inference model modes parameters posthoc predictive priors registry residual "
            "observed residual_draws view response results smooths terms unseen unseen_draws"
        ),
    }.items()
}

# One-line methods hand over to later rooms, which are imported when the method is called.
LATER = {
    "model": {"compile", "inference", "verbs"},
    "fit": {"inference", "verbs"},
}

HEAVY = {
    "arviz",
    "formulaic",
    "matplotlib",
    "numba",
    "nutpie",
    "pandas",
    "pymc",
    "pytensor",
    "xarray",
}


def room(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imports(node: ast.AST, inside_function: bool = False) -> Iterator[tuple[str, bool]]:
    """Give the rooms imported below a node, and whether within a function; not those for types."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from imports(other, inside_function)
        elif isinstance(child, ast.ImportFrom):
            module = child.module or ""
            if module == "glmm_bayes":
                yield from ((alias.name, inside_function) for alias in child.names)
            elif module.startswith("glmm_bayes."):
                yield module.split(".")[1], inside_function
        elif isinstance(child, ast.Import):
            for alias in child.names:
                if alias.name.split(".")[0] == "glmm_bayes":
                    yield (alias.name.split(".") + ["__init__"])[1], inside_function
        else:
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports(child, inside_function or function)


def wrong_imports(source: str, own: str) -> list[str]:
    wrong = []
    for target, inside_function in imports(ast.parse(source)):
        allowed = LAYERS[own] | {own}
        if inside_function:
            allowed = allowed | LATER.get(own, set())
        if target not in allowed:
            wrong.append(target)
    return wrong


SOURCES = [path for path in sorted(ROOT.rglob("*.py")) if room(path) != "__init__"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_from_the_rooms_before_it(path):
    own = room(path)
    assert own in LAYERS, f"{own} is a new room: say in LAYERS what it may import from."
    assert wrong_imports(path.read_text(encoding="utf-8"), own) == []


def test_the_layers_have_an_order():
    """No room reaches itself by way of others, leaving aside what is imported later."""
    placed: set[str] = set()
    while len(placed) < len(LAYERS):
        ready = {name for name, allowed in LAYERS.items() if allowed <= placed} - placed
        assert ready, f"These import one another: {sorted(set(LAYERS) - placed)}"
        placed |= ready


@pytest.mark.parametrize(
    ("source", "own", "wrong"),
    [
        ("from glmm_bayes.model import Model", "engine", ["model"]),
        ("import glmm_bayes.model", "engine", ["model"]),
        ("import glmm_bayes", "engine", ["__init__"]),
        ("from glmm_bayes import Model", "verbs", ["Model"]),
        ("def f():\n    from glmm_bayes.verbs import summary", "design", ["verbs"]),
        ("def f():\n    from glmm_bayes.verbs.summary import summary", "fit", []),
        ("from glmm_bayes.verbs.summary import summary", "fit", ["verbs"]),
        ("if TYPE_CHECKING:\n    from glmm_bayes.fit import Fit", "model", []),
        ("from glmm_bayes.engine.density.joint import Joint", "engine", []),
    ],
)
def test_the_walker_sees_what_it_should(source, own, wrong):
    assert wrong_imports(source, own) == wrong


def loaded_after(code: str) -> set[str]:
    """Give the packages that a fresh interpreter has loaded after running some code."""
    report = f"{code}\nimport sys\nprint('\\n'.join({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", report], capture_output=True, text=True, check=True, cwd=ROOT.parent
    )
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_after("import glmm_bayes") & HEAVY == set()


def test_listing_the_package_loads_nothing_heavy():
    assert loaded_after("import glmm_bayes; dir(glmm_bayes)") & HEAVY == set()


def test_building_a_model_needs_no_pymc():
    code = (
        "import glmm_bayes as gb\n"
        "gb.Model('Reaction ~ Days + (1 + Days | Subject)', gb.load_dataset('sleepstudy'))"
    )
    loaded = loaded_after(code)
    assert "formulaic" in loaded
    assert loaded & {"arviz", "matplotlib", "numba", "nutpie", "pymc", "pytensor"} == set()
