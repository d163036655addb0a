"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="torchvision name, timm:NAME, hf:NAME (a type or class of transformers; hf:NAME:tiny"
        " for a small one, 'hf:NAME?num_hidden_layers=2,hidden_size=256' for other sizes,"
        " hf:./folder for config.json and safetensors), package.module:factory,"
        " path/to/file.py:factory, or an artifact folder.",
    ),
]
Weights = Annotated[
    str,
    typer.Option(
        metavar="auto|pretrained|random|FILE",
        help="auto: pretrained if they can be had, else random with a warning.",
    ),
]
Input = Annotated[
    str | None,
    typer.Option(
        metavar="SHAPE",
        help="Example input, 1,3,224,224 or '1,128:int64;1,128:bool'; default: the model's own.",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Dtype = Annotated[
    Literal["fp32", "fp16", "bf16"], typer.Option(help="Arithmetic of the measurement.")
]
ChannelsLast = Annotated[bool, typer.Option("--channels-last", help="Measure in channels_last.")]
Keep = Annotated[
    list[str] | None, typer.Option(metavar="GLOB", help="Leave these layers whole; repeatable.")
]
Only = Annotated[
    list[str] | None, typer.Option(metavar="GLOB", help="Prune nothing but these; repeatable.")
]
Free = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GLOB", help="Let these inputs or outputs shrink: output, input:1; repeatable."
    ),
]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse operators that have no rule.")]
Out = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Folder to write; default: shrink_MODEL.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace an artifact folder.")]
Seed = Annotated[int, typer.Option(help="Of random weights, inputs and choices.", min=0)]
Json = Annotated[bool, typer.Option("--json", help="Print nothing but JSON on standard output.")]
Layers = Annotated[bool, typer.Option("--layers", help="Print the width of every layer.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
