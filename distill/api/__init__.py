"""The verbs as functions, for Python: `import distill` gives them. The command line calls these and prints what they return.

Paths are texts or path objects, of this machine or of gs:// and s3://. `progress=False` prints nothing. Bad input raises a DistillError with one
message, and what the system fails to do an OSError; no function ends the process, asks anything, or leaves handlers of signals or logs behind.
The functions are safe to call in a thread, one at a time for one folder.
"""

from distill.api.comparing import compare
from distill.api.data import chunk, draw_faces, draw_views, open_shards, verify
from distill.api.embedding import embed, import_set, plan
from distill.api.evaluating import evaluate
from distill.api.exporting import export_model, load_model
from distill.api.given import load_described
from distill.api.reporting import write_report
from distill.api.training import rehearse, train

__all__ = [
    "chunk",
    "compare",
    "draw_faces",
    "draw_views",
    "embed",
    "evaluate",
    "export_model",
    "import_set",
    "load_described",
    "load_model",
    "open_shards",
    "plan",
    "rehearse",
    "train",
    "verify",
    "write_report",
]
