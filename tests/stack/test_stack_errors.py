"""Bad input: each mistake is named with its place and the way out; odd but good input works."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repository import (
    DIGEST,
    STACK,
    Executable,
    Files,
    Link,
    Submodule,
    graph_of,
    inputs_of,
    make_repository,
    stack_files,
    tags_of,
)

from arr.errors import ArrError, ConfigError, DockerfileError, GitError, ManifestError, UsageError
from arr.stack import git, graph, inputs, lock, stackfile
from arr.stack.lock import Lock, Pin
from arr.stack.manifest import parse as parse_manifest
from arr.stack.stackfile import Obtain, Recipe

FROM = "FROM python:3.11\n"


def image(manifest: str | bytes = "a\n", dockerfile: str = FROM) -> Files:
    return {"Dockerfile": dockerfile, ".image-manifest": manifest}


def one(manifest: str | bytes, files: Files | None = None, dockerfile: str = FROM) -> Files:
    return {
        **stack_files({"one": image(manifest, dockerfile)}),
        **({"a": "x"} if files is None else files),
    }


def stack(toml: str, **images: Files) -> Files:
    return {**stack_files(images, toml), "a": "x"}


@dataclass(frozen=True)
class Mistake:
    files: Files
    error: type[ArrError]
    message: str
    hint: str


MANIFEST = "Stack/one/.image-manifest"
MISTAKES = {
    "a manifest that is empty": Mistake(
        one(""), ManifestError, f"{MANIFEST} names no file", "one path a line"
    ),
    "a manifest of comments": Mistake(
        one("# a\n\n  # b\n"), ManifestError, f"{MANIFEST} names no file", "one path a line"
    ),
    "a file that is not there": Mistake(
        one("a\n\nmissing file\n"),
        ManifestError,
        f"{MANIFEST}:3: there is no committed file missing file",
        "`git add missing file`",
    ),
    "a file of another case": Mistake(
        one("A\n"), ManifestError, f"{MANIFEST}:1: there is no committed file A", "git add"
    ),
    "an absolute path": Mistake(
        one("a\n/etc/passwd\n"),
        ManifestError,
        f"{MANIFEST}:2: /etc/passwd is an absolute path",
        "relative",
    ),
    "a path that leaves": Mistake(
        one("a\nx/../../b\n"),
        ManifestError,
        f"{MANIFEST}:2: x/../../b leaves the repository",
        "inside",
    ),
    "the whole repository": Mistake(
        one("./\n"), ManifestError, f"{MANIFEST}:1: ./ is the whole repository", "`**`"
    ),
    "a pattern that matches nothing": Mistake(
        one("# x\r\nsrc/*.py\r\n"),
        ManifestError,
        f"{MANIFEST}:2: the pattern src/*.py matches no committed file",
        "committed",
    ),
    "a folder's name in part": Mistake(
        one("sr\n", {"src/a": ""}),
        ManifestError,
        f"{MANIFEST}:1: there is no committed file sr",
        "git add",
    ),
    "a broken pattern": Mistake(
        one("a\n[a\n"),
        ManifestError,
        f"{MANIFEST}:2: [a is not a pattern: a '[' has no closing ']'",
        "backslash",
    ),
    "a name that no terminal can show": Mistake(
        one(b"a\n\xff\x1b\n"),
        ManifestError,
        rf"{MANIFEST}:2: there is no committed file \xff\x1b",
        "git add",
    ),
    "an unknown target": Mistake(
        one("@cloud a\n"), ManifestError, f"{MANIFEST}:1: unknown target @cloud", "local, gcp"
    ),
    "a target with no path": Mistake(
        one("@gcp\n"), ManifestError, f"{MANIFEST}:1: @gcp names no path", "@TARGET path"
    ),
    "a link out of the repository": Mistake(
        one("d\n", {"d/link": Link("../../secret")}),
        ManifestError,
        f"{MANIFEST}: d/link is a symbolic link out of the repository (to ../../secret)",
        "replace the link",
    ),
    "an absolute link": Mistake(
        one("*\n", {"link": Link("/etc/passwd")}),
        ManifestError,
        "out of the repository (to /etc/passwd)",
        "link",
    ),
    "a submodule": Mistake(
        one("a\nvendor\n", {"a": "", "vendor/lib": Submodule()}),
        ManifestError,
        f"{MANIFEST}:2: vendor/lib is a submodule",
        "Copy the files",
    ),
    "a submodule by its own name": Mistake(
        one("lib\n", {"lib": Submodule()}),
        ManifestError,
        f"{MANIFEST}:1: lib is a submodule",
        "Copy",
    ),
    "no manifest": Mistake(
        stack("", one={"Dockerfile": FROM}),
        ManifestError,
        f"one: there is no committed file {MANIFEST}",
        "commit",
    ),
    "no Dockerfile": Mistake(
        stack("", one={".image-manifest": "a\n"}),
        DockerfileError,
        "one: there is no committed file Stack/one/Dockerfile",
        "images.one.dockerfile",
    ),
    "no stack": Mistake({"a": ""}, GitError, f"{STACK} is not in commit", "Commit"),
    "a Dockerfile that is none": Mistake(
        one("a\n", None, "FROM python:3.11\nhello\n"),
        DockerfileError,
        "Stack/one/Dockerfile:2: unknown instruction 'hello'",
        "Correct",
    ),
    "FROM an unknown argument": Mistake(
        one("a\n", None, "FROM python:$V\n"),
        DockerfileError,
        "Stack/one/Dockerfile:1: FROM python:$V uses V",
        "ARG V=",
    ),
    "an unknown build argument": Mistake(
        stack(
            '[images.one]\nfolder = "Stack/one"\nbuild_args = {TORHC = "2"}\n',
            one=image("a\n", FROM + "ARG TORCH=1\n"),
        ),
        ConfigError,
        "build argument TORHC of one is declared by no ARG of Stack/one/Dockerfile",
        "Did you mean TORCH?",
    ),
    "a build argument of no ARG": Mistake(
        stack('[images.one]\nfolder = "Stack/one"\nbuild_args = {X = "2"}\n', one=image()),
        ConfigError,
        "build argument X of one",
        "Add `ARG X`",
    ),
    "a parent that is nowhere": Mistake(
        stack("", trainer=image(), other=image("a\n", "FROM trianer:latest\n")),
        ConfigError,
        "Stack/other/Dockerfile:1: trianer:latest is neither an image of the stack nor a base",
        "Did you mean trainer? Otherwise add",
    ),
    "a copy from nowhere": Mistake(
        one("a\n", None, FROM + "COPY --from=busybox /x /x\n"),
        ConfigError,
        "Stack/one/Dockerfile:2: busybox is neither",
        '[bases."busybox"]',
    ),
    "another tag of a base": Mistake(
        one("a\n", None, "FROM python:3.12\n"),
        ConfigError,
        "python:3.12 is neither",
        "Did you mean python:3.11?",
    ),
    "a parent of another target": Mistake(
        stack(
            '[images.gpu]\nfolder = "Stack/gpu"\ndockerfile = {gcp = "Dockerfile"}\n',
            gpu=image(),
            one=image("a\n", "FROM gpu\n"),
        ),
        ConfigError,
        "the image gpu has no Dockerfile for the target local",
        "images.gpu.dockerfile",
    ),
    "a circle": Mistake(
        stack(
            "", x=image("a\n", "FROM z\n"), y=image("a\n", "FROM x\n"), z=image("a\n", "FROM y\n")
        ),
        ConfigError,
        "in a circle: ",
        "a base",
    ),
    "FROM itself": Mistake(
        stack("", one=image("a\n", "FROM one:latest\n")),
        ConfigError,
        "in a circle: one -> one",
        "a base",
    ),
    "a broken ignore file": Mistake(
        stack("", one={**image(), "Dockerfile.dockerignore": "x\n[\n"}),
        DockerfileError,
        "Stack/one/Dockerfile.dockerignore:2: [ is not a pattern",
        "Correct",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_named_with_its_place_and_the_way_out(
    mistake: Mistake, tmp_path_factory: pytest.TempPathFactory
) -> None:
    commit = make_repository(tmp_path_factory.mktemp("r")).commit(mistake.files)
    with pytest.raises(mistake.error) as caught:
        inputs_of(commit)
    assert type(caught.value) is mistake.error
    assert mistake.message in caught.value.message
    assert mistake.hint in caught.value.hint
    assert caught.value.exit_code == UsageError.exit_code
    str(caught.value).encode("utf-8")


def test_a_circle_is_told_from_child_to_parent(tmp_path_factory: pytest.TempPathFactory) -> None:
    commit = make_repository(tmp_path_factory.mktemp("r")).commit(MISTAKES["a circle"].files)
    with pytest.raises(ConfigError) as caught:
        graph_of(commit)
    circle = caught.value.message.rpartition("circle: ")[2].split(" -> ")
    assert circle[0] == circle[-1]
    parent = {"x": "z", "y": "x", "z": "y"}
    assert all(parent[a] == b for a, b in pairwise(circle))


def test_an_unpinned_base(tmp_path_factory: pytest.TempPathFactory) -> None:
    commit = make_repository(tmp_path_factory.mktemp("r")).commit(one("a\n"))
    with pytest.raises(ConfigError) as caught:
        inputs.of_graph(graph_of(commit), commit, {})
    assert "one: the base python:3.11 is not pinned for the target local" in caught.value.message
    assert "arr lock --update --target local" in caught.value.hint


GOOD: dict[str, Files] = {
    "a name with spaces": one("two words\n", {"two words": "x"}),
    "a name with a line end": one("two?lines\n", {"two\nlines": "x"}),
    "a name of any bytes": one(b"\xff\xfe\n", {"\udcff\udcfe": "x"}),
    "a name with brackets": one("[id].ts\n", {"[id].ts": "x"}),
    "a name with an at sign": one("\\@a\n", {"@a": "x"}),
    "a byte order mark and Windows line ends": one("\ufeffa\r\nd\r\n", {"a": "x", "d/b": "x"}),
    "a line given twice": one("a\na\n**\n"),
    "a link to a file inside": one("d\n", {"d/link": Link("../a"), "a": "x"}),
    "a link to a folder inside": one("link\n", {"link": Link("d/../e/."), "e/x": "x"}),
    "a link to nothing": one("link\n", {"link": Link("soon")}),
    "a link out, not listed": one("a\n", {"a": "x", "link": Link("/etc")}),
    "a submodule, not listed": one("a\n", {"a": "x", "vendor/lib": Submodule()}),
    "a pattern for the other target only": one("a\n@gcp no/such/file\n"),
    "a comment in a here-document": one("a\n", None, FROM + "RUN <<E\nFROM nowhere\nE\n"),
    "a folder with a slash at its end": {
        STACK: '[images.one]\nfolder = "Stack/one/"\n[bases."python:3.11"]\n',
        "Stack/one/Dockerfile": FROM,
        MANIFEST: "a\n",
        "a": Executable(),
    },
}


@pytest.mark.parametrize("files", GOOD.values(), ids=GOOD.keys())
def test_what_is_odd_but_right_works(
    files: Files, tmp_path_factory: pytest.TempPathFactory
) -> None:
    commit = make_repository(tmp_path_factory.mktemp("r")).commit(files)
    chosen = inputs_of(commit)["one"].files
    assert chosen
    assert set(chosen) <= files.keys()


# stack.toml

ONE = '[images.one]\nfolder = "Stack/one"\n'
TOML = {
    "not TOML": ("[images\n", "is not valid TOML: ", "Correct that line"),
    "not TOML, with its line": (ONE + "x = \n", "line 3", "Correct that line"),
    "nothing": ("", "there is no key `images`", "Add it"),
    "no image": ("[images]\n", "names no image", "[images.NAME]"),
    "an image twice": (ONE + ONE, "two images have the name one", "Rename one"),
    "one folder name for two": (
        ONE + '[images.two]\nfolder = "Other/one"\n',
        "two images have one name: one and two would both be pushed as one",
        "folder of another name",
    ),
    "an unknown key": (
        ONE + 'platfrom = "x"\n',
        "unknown key `platfrom` in images.one",
        "Did you mean platform?",
    ),
    "an unknown key of the second": (
        ONE + '[images.b]\nfolder = "b"\nxyzzy = 1\n',
        "unknown key `xyzzy` in images.b",
        "The keys are: ",
    ),
    "an unknown table": (ONE + "[bses]\n", "unknown key `bses`", "Did you mean bases?"),
    "an unknown key of a base": (
        ONE + '[bases."a:1".local]\nobtian = "pull"\n',
        "unknown key `obtian` in bases.a:1.local",
        "Did you mean obtain?",
    ),
    "a wrong type": (
        ONE + "platform = 3\n",
        "Expected `str`, got `int` in images.one.platform",
        "Correct",
    ),
    "a wrong type deep inside": (
        ONE + "[images.one.build_args]\nA = 1\n",
        "got `int` in images.one.build_args",
        "Correct",
    ),
    "a table that is a word": (
        'images = "one"\n',
        "Expected `object`, got `str` in images",
        "Correct",
    ),
    "an image that is a word": ('[images]\none = "x"\n', "got `str` in images.one", "Correct"),
    "a missing key": ("[images.one]\n", "there is no key `folder` in images.one", "Add it"),
    "a wrong word": (
        ONE + '[bases.a.gcp]\nobtain = "fetch"\n',
        "'fetch' in bases.a.gcp.obtain",
        "Correct",
    ),
    "an unknown target of a value": (
        ONE + "python = {cloud = '3.11'}\n",
        "unknown target 'cloud' in images.one.python",
        "local, gcp",
    ),
    "an unknown target of an argument": (
        ONE + "build_args.A = {x = '1'}\n",
        "unknown target 'x' in images.one.build_args.A",
        "local, gcp",
    ),
    "a recipe that is nowhere": (
        ONE
        + '[bases.a.local]\nobtain = "make"\nrecipe = "slm"\n'
        + '[recipes.slim]\nsuite = "x"\npackages = []\n',
        "bases.a.local: there is no recipe slm",
        "Did you mean slim?",
    ),
    "no recipe": (
        ONE + '[bases.a.local]\nobtain = "make"\n',
        "make needs a recipe",
        "recipe = NAME",
    ),
}


@pytest.mark.parametrize(("text", "message", "hint"), TOML.values(), ids=TOML.keys())
def test_a_mistake_in_stack_toml_is_named_by_its_key(text: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        stackfile.parse(text)
    assert caught.value.message.startswith(STACK)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_values_by_target() -> None:
    stack = stackfile.parse(
        '[images.one]\nfolder = "Stack/one"\ndockerfile = {gcp = "Dockerfile.gpu"}\n'
        'build_args = {A = "1", B = {gcp = "2"}}\nsmoke = {local = ["true"]}\n'
        '[bases.a.gcp]\nobtain = "pull"\n'
    )
    image = stack.images["one"]
    assert image.dockerfile_for("local") is None
    assert image.dockerfile_for("gcp") == "Stack/one/Dockerfile.gpu"
    assert image.build_args_for("local") == {"A": "1"}
    assert image.build_args_for("gcp") == {"A": "1", "B": "2"}
    assert (image.smoke_for("local"), image.smoke_for("gcp")) == (["true"], [])
    assert stack.bases["a"].for_target("gcp") == Obtain("pull")


# The graph


def test_parents_come_first_and_only_what_is_asked_for_is_kept(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    files = stack(
        "",
        trainer=image("a\n", "FROM ml\nCOPY --from=tools / /\n"),
        ml=image("a\n", "FROM base:latest\n"),
        launcher=image(),
        tools=image(),
        base=image(),
    )
    made = graph_of(make_repository(tmp_path_factory.mktemp("r")).commit(files))
    order = [node.name for node in made]
    assert set(order) == {"trainer", "ml", "launcher", "tools", "base"}
    assert order.index("base") < order.index("ml") < order.index("trainer") > order.index("tools")
    assert [node.name for node in made.with_ancestors(["ml"])] == ["base", "ml"]
    assert [node.name for node in made.with_ancestors([])] == order
    assert made.node("trainer").parents == {"ml": "ml", "tools": "tools"}
    assert made.node("base").bases == ("python:3.11",)
    for ask in (lambda: made.node("trianer"), lambda: made.with_ancestors(["ml", "trianer"])):
        with pytest.raises(ConfigError, match="the stack has no image trianer") as caught:
            ask()
        assert caught.value.hint == "Did you mean trainer?"


def test_a_parent_is_known_by_its_folder_too(tmp_path_factory: pytest.TempPathFactory) -> None:
    toml = '[images.ml]\nfolder = "Stack/arr-ml-stack"\n'
    files = {
        **stack_files({"one": image("a\n", "FROM arr-ml-stack:latest\n")}, toml),
        "a": "x",
        "Stack/arr-ml-stack/Dockerfile": FROM,
        "Stack/arr-ml-stack/.image-manifest": "a\n",
    }
    made = graph_of(make_repository(tmp_path_factory.mktemp("r")).commit(files))
    assert made.node("one").parents == {"arr-ml-stack:latest": "ml"}


def test_a_name_counts_before_a_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    toml = '[images.y]\nfolder = "Stack/x"\n[images.x]\nfolder = "Stack/y"\n'
    files = stack_files({"one": image("a\n", "FROM x\n")}, toml)
    owned = {f"Stack/{i}/{name}": c for i in ("x", "y") for name, c in image().items()}
    commit = make_repository(tmp_path_factory.mktemp("r")).commit({**files, **owned, "a": ""})
    assert graph_of(commit).node("one").parents == {"x": "x"}


def test_a_dockerfile_by_target_makes_another_graph(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    toml = ONE + 'dockerfile = {local = "Dockerfile", gcp = "Dockerfile.gpu"}\n'
    own = {**image(), "Dockerfile.gpu": "FROM ml\n", "Dockerfile.gpu.dockerignore": "x\n"}
    commit = make_repository(tmp_path_factory.mktemp("r")).commit(stack(toml, one=own, ml=image()))
    assert graph_of(commit, "local").node("one").parents == {}
    there = graph_of(commit, "gcp").node("one")
    assert there.parents == {"ml": "ml"}
    assert there.ignore_path == "Stack/one/Dockerfile.gpu.dockerignore"
    assert tags_of(commit, "local")["one"] != tags_of(commit, "gcp")["one"]


# stack.lock

digests = st.text("0123456789abcdef", min_size=64, max_size=64).map(lambda hexes: f"sha256:{hexes}")
pins = st.builds(Pin, digest=digests) | st.builds(
    Pin, recipe=st.text(min_size=1), recipe_hash=digests
)
references = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
locks = st.builds(
    Lock,
    local=st.dictionaries(references, pins, max_size=3),
    gcp=st.dictionaries(references, pins, max_size=3),
)


@settings(max_examples=100, deadline=None)
@given(locks)
def test_a_lock_is_read_as_it_was_written(each: Lock) -> None:
    assert lock.parse(lock.dumps(each)) == each


def test_the_same_pins_give_the_same_text() -> None:
    pin, made = Pin(digest=DIGEST), Pin(recipe="slim", recipe_hash=DIGEST)
    text = lock.dumps(Lock(local={"b": made, "a:1": pin}, gcp={"a:1": pin}))
    assert text == lock.dumps(Lock(gcp={"a:1": pin}, local={"a:1": pin, "b": made}))
    assert text == (
        "# Written by `arr lock --update`: what each base is pinned to. Commit it.\n\n"
        f'version = 1\n\n[local."a:1"]\ndigest = "{DIGEST}"\n\n[local."b"]\nrecipe = "slim"\n'
        f'recipe_hash = "{DIGEST}"\n\n[gcp."a:1"]\ndigest = "{DIGEST}"\n'
    )


LOCKS = {
    "a conflict of a merge": ("<<<<<<< HEAD\n", "is not valid TOML", "Correct"),
    "a later version": (
        "version = 2\nfoo = 1\n",
        "has version 2; this arr reads version 1",
        "Upgrade",
    ),
    "neither": ('[local."a:1"]\n', "local.a:1 must have a digest or a recipe", "arr lock --update"),
    "both": (
        f'[gcp.a]\ndigest = "{DIGEST}"\nrecipe = "x"\nrecipe_hash = "{DIGEST}"\n',
        "gcp.a must have",
        "arr lock --update",
    ),
    "half a recipe": ('[local.a]\nrecipe = "x"\n', "local.a must have", "arr lock --update"),
    "a short digest": (
        '[local.a]\ndigest = "sha256:abc"\n',
        "local.a: 'sha256:abc' is not",
        "arr lock --update",
    ),
    "a tag for a digest": (
        '[local.a]\ndigest = "latest"\n',
        "local.a: 'latest' is not",
        "arr lock --update",
    ),
    "a broken hash": (
        '[local.a]\nrecipe = "x"\nrecipe_hash = "1"\n',
        "local.a: '1' is not",
        "arr lock --update",
    ),
    "an unknown key": (
        '[local.a]\ndigst = "x"\n',
        "unknown key `digst` in local.a",
        "Did you mean digest?",
    ),
    "an unknown target": (
        f'[cloud.a]\ndigest = "{DIGEST}"\n',
        "unknown key `cloud`",
        "The keys are",
    ),
}


@pytest.mark.parametrize(("text", "message", "hint"), LOCKS.values(), ids=LOCKS.keys())
def test_a_damaged_lock_is_named_by_its_key(text: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        lock.parse(text)
    assert caught.value.message.startswith("Stack/stack.lock")
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_pin_says_what_it_is() -> None:
    assert str(Pin(digest=DIGEST)) == "pulled, sha256:abababababab"
    made = Pin(recipe="slim", recipe_hash=DIGEST)
    assert str(made) == "made from Debian's packages, recipe slim sha256:abababa"
    assert made.identity() != Pin(digest=DIGEST).identity()


def test_every_part_of_a_recipe_is_in_its_hash() -> None:
    recipe = Recipe(suite="trixie", packages=["a", "b"])
    others = [
        Recipe(suite="sid", packages=["a", "b"]),
        Recipe(suite="trixie", packages=["b", "a"]),
        Recipe(suite="trixie", packages=["a", "b"], env={"A": "1"}),
        Recipe(suite="trixie", packages=["a", "b"], command=["sh"]),
    ]
    assert len({lock.recipe_hash(each) for each in [recipe, *others]}) == 5
    assert lock.recipe_hash(recipe) == lock.recipe_hash(Recipe(suite="trixie", packages=["a", "b"]))


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab/.*?[]\\!#@ \t\r\n\udcff\u2028:-^", max_size=24))
def test_any_manifest_is_read_or_refused_with_its_line(text: str) -> None:
    refused = None
    try:
        found = parse_manifest("M", text, ("local", "gcp"))
    except ManifestError as error:
        refused = error
    if refused:
        assert refused.message.startswith("M")
        assert refused.hint
        str(refused).encode("utf-8")
        return
    lines = text.removeprefix("\ufeff").split("\n")
    assert all(not lines[p.line - 1].strip(" \t\r").startswith("#") for p in found.patterns)


def test_only_errors_for_users_come_out_of_a_graph_of_any_dockerfile(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    repository = make_repository(tmp_path_factory.mktemp("r"))
    for dockerfile in ("", "\n", "#\n", "FROM", "FROM \\\n", "\\\n", "ARG\n", "FROM $\n", "\0\n"):
        commit = repository.commit(one("a\n", None, dockerfile))
        with pytest.raises(UsageError):
            graph.build(
                stackfile.parse(commit.text(STACK)), git.commit_at(repository.root), "local"
            )
