"""`cnnengine annotate`: write preparation, labels and task into a model's file."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import InputError, ModelError
from ..metadata import OUTPUT_KEY, OUTPUT_KINDS, SETS, TASK_KEY, TASKS, About, Subject, about
from ..metadata.image_properties import properties as image_properties
from ..metadata.write import properties_of, write_properties
from ..preprocess import LABELS_KEY, METADATA_KEY
from ._common import EXIT_OK
from .pictures import add_image_options, image_options, labels_given, option_name

if TYPE_CHECKING:
    from ..metadata import Preparation
    from ..model import Model

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

COMMON_TASKS = ("classify", "detect", "segment", "pose", "obb")
"""Those that the key `task` of Ultralytics has."""

DESCRIPTION = """\
Write into a model's file how pictures become its input, the labels of its classes, what its output's numbers are, and what it is
for: `predict`, `info` and Model.preprocess need no options then. What no option says is taken from the file itself, from
files beside it, or from --from, whoever's format it is; it is printed, with where it was found. All other bytes of the file stay
as they are."""
EXAMPLES = """examples:
  cnnengine annotate model.onnx --assume imagenet --labels classes.txt --output logits -o model.onnx
  cnnengine annotate nsfw.onnx --fit stretch --resize 256 --order BGR --scale 1 --mean 104,117,123 -o nsfw.annotated.onnx
  cnnengine annotate vit.onnx --from vit-base/ -o vit.annotated.onnx

exit status: 0 written, 2 wrong usage, a model that cannot be used, or nothing to write
"""


def add_to(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "annotate",
        help="write preparation, labels and task into a model's file",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="ONNX file (example: model.onnx)")
    parser.add_argument(
        "-o",
        "--out",
        metavar="OUT",
        required=True,
        help="file to write; it may be MODEL itself, which is then replaced (example: -o annotated.onnx)",
    )
    parser.add_argument(
        "--from",
        metavar="PATH",
        dest="source",
        help="a file, or a folder with files, of the formats in docs/metadata.md: preprocessor_config.json, config.json, "
        "transforms.json, an OpenVINO .xml, another .onnx (example: --from vit-base/)",
    )
    parser.add_argument(
        "--labels",
        metavar="FILE|NAME",
        help=f"class labels: a file with one a line or a JSON list, or those of {', '.join(SETS)} from torchvision or timm, "
        "where one is installed (example: --labels classes.txt)",
    )
    parser.add_argument("--output", choices=OUTPUT_KINDS, help="what the output's numbers are (example: --output logits)")
    parser.add_argument("--task", choices=TASKS, help="what the model is for (example: --task classify)")
    add_image_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the file, and print what was written and where it was found."""
    from .. import load

    _check_external(args.model, args.out)
    with load(args.model) as model:
        found = _known(model, args)
        preparation = _preparation(model, found, args)
        texts, lines = _texts(model, found, preparation, args)
    if not texts:
        raise InputError(
            "nothing to write: nothing is known of the model's pictures, labels, output or task",
            expected="options such as --scale, --labels, --task, or --from",
        )
    write_properties(args.model, args.out, texts)
    if any(properties_of(args.out).get(key) != value for key, value in texts.items()):
        raise ModelError("the metadata that were written are not those that are read", model=args.out)
    for line in lines:
        print(line)
    print(f"{args.out}: {os.path.getsize(args.out):,} bytes, with {', '.join(sorted(texts))}")
    return EXIT_OK


def _check_external(path: str, out: str) -> None:
    """Refuse to write into a folder without the weights that the file refers to."""
    from ..importer import external_files

    names = external_files(path)
    homes = [os.path.dirname(os.path.abspath(path)), os.path.dirname(os.path.realpath(path))]
    folder = os.path.dirname(os.path.realpath(out))
    for name in names:
        sizes = {os.path.getsize(p) for home in homes if os.path.isfile(p := os.path.join(home, name))}
        there = os.path.join(folder, name)
        if not os.path.isfile(there) or os.path.getsize(there) not in sizes:
            raise InputError(
                f"{out}: the model keeps weights in files of its own, which are looked for beside it",
                expected=f"a file in {homes[0]}, or in a folder that has {', '.join(names)} too",
            )


def _known(model: Model, args: argparse.Namespace) -> About:
    """What is known of the model: what --from says goes before what it says of itself."""
    if args.source is None:
        return model.about
    shape = model.inputs[0].shape if len(model.inputs) == 1 else None
    outputs = tuple(info.shape for info in model.outputs)
    path = args.source
    if os.path.isdir(path):
        # A file of this name need not be there: it is what stands beside it that counts.
        subject = Subject({}, os.path.join(path, os.path.basename(args.model)), shape, outputs)
    elif path.lower().endswith(".onnx"):
        subject = Subject(properties_of(path), path, shape, outputs)
    else:
        if not os.path.isfile(path):
            raise InputError(f"{path}: there is no such file or folder")
        subject = Subject({}, args.model, shape, outputs, given=path)
    found = about(subject)
    if not found.statements:
        raise InputError(
            f"{path}: nothing there that is known",
            expected="preprocessor_config.json, config.json, transforms.json, an OpenVINO .xml with model_info, or an .onnx "
            "file with metadata",
        )
    own = model.about.statements
    if found.chosen is not None:  # the preparation is replaced as a whole
        own = tuple(replace(statement, settings={}, complete=False, notes=()) for statement in own)
    return About((*found.statements, *own), found.fixed, found.problems)


def _preparation(model: Model, found: About, args: argparse.Namespace) -> Preparation | None:
    """How pictures become the input; None where nobody says it and no option asks for it."""
    given = image_options(args)
    asked = args.assume is not None or any(value is not None for value in given.values())
    if not asked and found.chosen is None:
        return None
    if len(model.inputs) != 1:
        if not asked:
            return None
        raise InputError("images go to models of one input", model=model.name, expected=1, received=len(model.inputs))
    try:
        return found.preparation(model.inputs[0], given, args.assume, option_name)
    except InputError as error:
        if asked or args.source is not None:
            raise error.locate(model=model.name) from None
        return None


def _texts(
    model: Model, found: About, preparation: Preparation | None, args: argparse.Namespace
) -> tuple[dict[str, str], list[str]]:
    """Keys and values to write, ours and the common ones, and lines that say what they are."""
    texts: dict[str, str] = {}
    lines = []
    if preparation is not None:
        texts[METADATA_KEY] = json.dumps(preparation.settings.as_dict())
        texts.update(image_properties(preparation.settings))
        lines.append(f"pictures: {preparation.describe()}")
    labels, source = _labels(model, found, args)
    if labels is not None:
        texts[LABELS_KEY] = json.dumps(labels, ensure_ascii=False)
        texts["names"] = repr(dict(enumerate(labels)))
        lines.append(f"{len(labels)} labels from {source}")
    for name, key, given in (("output", OUTPUT_KEY, args.output), ("task", TASK_KEY, args.task)):
        stated = found.first(name)
        value = given if given is not None else None if stated is None else str(stated[0])
        if value is None:
            continue
        texts[key] = value
        if name == "task" and value in COMMON_TASKS:
            texts["task"] = value
        lines.append(f"{name}: {value}, from {'options' if given is not None or stated is None else stated[1]}")
    return texts, lines


def _labels(model: Model, found: About, args: argparse.Namespace) -> tuple[tuple[str, ...] | None, str]:
    """The labels and where they come from, as many as the model has classes."""
    last = model.outputs[0].shape[-1] if len(model.outputs) == 1 and model.outputs[0].shape else None
    classes = last if isinstance(last, int) and len(model.outputs[0].shape or ()) == 2 else None
    if args.labels is not None:
        labels, source = labels_given(args.labels, classes), args.labels
    else:
        stated = found.first("labels")
        if stated is None:
            return None, ""
        labels, source = found.labels or (), stated[1]
    if classes is not None and len(labels) != classes:
        raise InputError(f"the labels of {source} do not fit the model", expected=f"{classes} labels", received=len(labels))
    return labels, source
