"""Who may import whom, what is documented, and what no file may contain."""

import ast
import re
import sys
from pathlib import Path

import pytest
from file_endings import complaints
from repository import ROOT, Module, described, modules, tracked

SHARED = {"", "core", "commands"}  # commands: verbs of no domain
DOMAINS = {module.domain for module in modules()} - SHARED
ROOMS = {  # room: rooms of its domain that it may import, besides itself and core
    "physics": set(),
    "data": {"physics"},
    "generate": {"physics", "data"},
    "net": {"physics"},
    "loss": {"physics"},
    "metrics": {"physics"},
    "report": {"metrics", "physics"},
    "task": {"net", "loss", "metrics", "physics", "report"},
    "apply": {"net", "task", "metrics", "physics", "data", "generate"},
}
ROOMS["commands"] = {*ROOMS}
PHYSICS = {"numpy", "scipy", "torch", "sciml", "ase"}  # and the standard library; ase: masses
# looked for in every file; written in pieces so that this one does not hold them
HOSTS = ["py" + "pi.org", "python" + "hosted.org", "download.py" + "torch.org", "anaconda" + ".org"]
FLAGS = ["--index" + "-url", "--extra-index" + "-url", "--find" + "-links"]
FOLDERS = re.compile(r"(?<![\w.$}~-])/(home|Users|root|work|mnt|scratch)/[\w.-]+")


def own_imports(module: Module) -> set[str]:
    return {name for name in module.imports() if name.split(".")[0] == "sciml"}


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)
def test_imports_stay_within_the_rules(module: Module) -> None:
    imported = own_imports(module)
    domains = {name.split(".")[1] for name in imported if name.count(".")} & DOMAINS
    if module.domain in {"core", "commands"}:
        assert not domains, f"{module.domain} imports {domains}"
    elif module.domain:
        assert domains <= {module.domain}, f"{module.domain} imports {domains}"
    else:
        assert not domains or module.name == "sciml.cli", f"only cli imports {domains}"


@pytest.mark.parametrize(
    "module", [m for m in modules() if m.domain in DOMAINS and m.room], ids=lambda m: m.name
)
def test_rooms_import_only_rooms_below_them(module: Module) -> None:
    prefix = f"sciml.{module.domain}."
    rooms = {n.removeprefix(prefix).split(".")[0] for n in own_imports(module) if prefix in n}
    assert module.room in ROOMS, f"{module.room} is no room of the layout"
    above = rooms - ROOMS[module.room] - {module.room}
    assert not above, f"{module.room} imports {above}"


@pytest.mark.parametrize(
    "module", [m for m in modules() if m.room == "physics"], ids=lambda m: m.name
)
def test_physics_needs_only_numbers(module: Module) -> None:
    libraries = {name.split(".")[0] for name in module.imports()} - sys.stdlib_module_names
    assert libraries <= PHYSICS


def test_pytest_stays_in_the_tests() -> None:
    for path in tracked():
        if path.suffix == ".py" and "tests" not in path.parts:
            module = Module("", path, ast.parse(path.read_text(encoding="utf-8")))
            assert "pytest" not in {name.split(".")[0] for name in module.imports()}, path


def parameters(function: ast.FunctionDef) -> list[str]:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args]
    extra = [one for one in (arguments.vararg, arguments.kwarg) if one]
    return [one.arg for one in [*named, *arguments.kwonlyargs, *extra] if one.arg != "self"]


def constructor(node: ast.ClassDef) -> list[str] | None:
    """Parameters of the class, None where it has no constructor of its own."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return parameters(item)
    if not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        return None
    fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
    kept = [field for field in fields if "ClassVar" not in ast.unparse(field.annotation)]
    return [ast.unparse(field.target) for field in kept]


def public_classes() -> list[tuple[Module, ast.ClassDef]]:
    return [
        (module, node)
        for module in modules()
        for node in module.tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]


@pytest.mark.parametrize(
    ("module", "node"), public_classes(), ids=[f"{m.name}.{n.name}" for m, n in public_classes()]
)
def test_class_documents_its_arguments(module: Module, node: ast.ClassDef) -> None:
    docstring = ast.get_docstring(node)
    assert docstring, f"{module.path}:{node.lineno} has no docstring"
    wanted = constructor(node)
    if wanted is not None:
        assert described(docstring) == wanted, f"{module.path}:{node.lineno}"


def test_no_file_names_a_machine_or_a_package_index() -> None:
    own = [str(folder) for folder in (ROOT, Path.home()) if len(folder.parts) > 2]
    found = []
    for path in tracked():
        text = path.read_text(encoding="utf-8", errors="ignore")
        words = [word for word in [*HOSTS, *FLAGS, *own] if word in text]
        found += [f"{path.relative_to(ROOT)}: {word}" for word in words]
        found += [f"{path.relative_to(ROOT)}: {hit[0]}" for hit in FOLDERS.finditer(text)]
    assert not found


def test_installation_is_always_from_the_repository() -> None:
    wrong = re.compile("pip install " + r"(-\S+ )*sciml\b")
    assert not [path for path in tracked() if wrong.search(path.read_text(errors="ignore"))]


def test_text_files_end_well() -> None:
    assert not complaints(path for path in tracked() if not path.is_symlink())
