"""The verb import: embeddings that other programs stored become a set of shards."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from distill.cli.endings import given, print_next, training
from distill.cli.options import (
    HANDED,
    IMAGES,
    OUTPUT,
    TEACHER,
    WORK,
    AsJson,
    Dtype,
    Exif,
    LabelFrom,
    Out,
    Resize,
    Rows,
    StoredImages,
    StripPrefix,
    one_of,
    print_json,
    takes,
)
from distill.storage.path import StoragePath, as_path


@takes(HANDED)
def import_(
    context: typer.Context,
    source: Annotated[StoragePath, typer.Argument(metavar="FOLDER", parser=as_path, help="a folder of N_img.foo and N_emb.npy, or of .npz files; or one .npz")],
    out: Out,
    root: Annotated[str, typer.Option(metavar="FOLDER", rich_help_panel=IMAGES, help="folder that the paths are relative to")],
    strip_prefix: StripPrefix = "",
    label_from: LabelFrom = "",
    resize: Resize = "none",
    exif: Exif = "ignore",
    size: Annotated[
        str | None, typer.Option(metavar="HxW", rich_help_panel=IMAGES, help="height x width that the teacher saw", show_default="that of the first image")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(metavar="MODEL", rich_help_panel=TEACHER, help="the teacher that made the embeddings: a sample is embedded again and compared")
    ] = None,
    rows: Rows = 100_000,
    max_rejects: Annotated[float, typer.Option(metavar="FRACTION", rich_help_panel=WORK, help="fraction of all rows that may be rejected, 0 to 1")] = 0.01,
    retry_rejects: Annotated[
        bool, typer.Option("--retry-rejects", rich_help_panel=WORK, help="embed again the chunks that have a rejected image which can be read now")
    ] = False,
    format: Annotated[str, typer.Option(**one_of("parquet", "hdf5"), rich_help_panel=OUTPUT, help="format of the shards")] = "parquet",
    dtype: Dtype = "float16",
    images: StoredImages = "inline",
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Make a set of shards of embeddings that another program has stored beside its lists of images. Running it again does what is missing.

    \b
    Example: distill import old-shards out --root photos --teacher teacher
    """
    from distill import api

    done = api.import_set(
        source,
        out,
        root=root,
        teacher=teacher,
        strip_prefix=strip_prefix,
        label_from=label_from,
        format=format,
        rows=rows,
        dtype=dtype,
        images=images,
        resize=resize,
        exif=exif,
        size=size,
        max_rejects=max_rejects,
        retry_rejects=retry_rejects,
        **options,
    )
    if as_json:
        print_json(done.as_dict())
        return
    print(done.in_words())
    known = given(context, "teacher") + (given(context, "root") if images == "path" else [])
    print_next(["verify", out, "--deep", *known], training(out))
