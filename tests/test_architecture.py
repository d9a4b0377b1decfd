"""Imports between the packages point one way: down the layers, along the arrows that are named here."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import toremi_cli

SRC = Path(toremi_cli.__file__).parent
FILES = {".".join(f.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__"): f for f in SRC.rglob("*.py")}
SETTINGS = {"settings", "policy_config", "plugins"}
ROOT = {file.stem for file in SRC.glob("*.py")} - {"__main__", "cli", "replay", "api", *SETTINGS}
LAYERS = (
    {"settings": ""},
    {"root": "settings", "reweight": "settings"},
    {"lm": "root", "runs": "root", "replay": "root reweight"},
    {"corpus": "settings root lm"},
    {
        "topics": "settings root corpus lm",
        "train": "settings root reweight lm runs",
        "evaluate": "settings root corpus lm runs",
    },
    {
        "report": "root reweight runs evaluate",
        "export": "settings root reweight lm corpus runs",
        "integrations": "reweight lm train",
    },
    {"commands": "settings root corpus runs replay topics train evaluate report export"},
    {"cli": "root commands", "api": "root corpus runs topics train evaluate"},
    {"__main__": "cli"},
)


def package_of(module):
    top = module.partition(".")[0]
    if top in SETTINGS:
        return "settings"
    return "root" if top in ROOT else top


def names_in(file):
    """What a module imports: at its top, within functions and for type checking alike."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(file):
    names = [name.removeprefix("toremi_cli.") for name in names_in(file) if name.startswith("toremi_cli.")]
    return {name if name in FILES else name.rpartition(".")[0] or "__init__" for name in names}


IMPORTS = {module: own_imports(file) - {module} for module, file in FILES.items()}


def test_packages_import_what_they_may_and_nothing_else():
    arrows = {package: set() for layer in LAYERS for package in layer}
    for module, targets in IMPORTS.items():
        arrows[package_of(module)] |= {package_of(target) for target in targets} - {package_of(module)}
    assert arrows == {package: set(allowed.split()) for layer in LAYERS for package, allowed in layer.items()}


def test_arrows_point_down_and_no_modules_import_each_other():
    below = set()
    for layer in LAYERS:
        assert below >= {package for allowed in layer.values() for package in allowed.split()}
        below |= set(layer)
    TopologicalSorter(IMPORTS).prepare()


def test_only_topics_needs_the_libraries_that_training_machines_lack():
    lacking = ("gensim", "top2vec", "umap", "hdbscan")
    assert {package_of(m) for m, f in FILES.items() if any(n.startswith(lacking) for n in names_in(f))} == {"topics"}
