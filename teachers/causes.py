"""Why a library refused a model, in one line: what TensorFlow, Keras, h5py, zip and onnxruntime raise is of many classes, long, and often
says the cause last, behind a dump of the model, or advice on options that are their own and not ours. Short, because
it is all that the kinds of models share in this."""

import re

INNER = "Exception encountered:"  # Keras wraps errors in errors; the last one is the cause
# Lines of TensorFlow that say where in its graph or C++, not what.
PLACES = re.compile(
    r"Graph execution error:.*|Detected at node.*|File \".*|<stack traces unavailable>|\[\[.*|Function call stack:.*|\d+ root error\(s\) found\.?"
    r"|\d+ (successful operations|derived errors ignored)\.?|Stack ?trace.*|Traceback .*"
)
BEFORE = re.compile(r"^(\(\d+\) )?([A-Z_]{5,}: )?(\[ONNXRuntimeError\] : \d+ : \w+ : )?")  # "(0) INVALID_ARGUMENT: "
DUMPS = re.compile(r"\s*(Full object config: |config=|\bname: *$|\[Op:).*", re.DOTALL)
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z`'\"(])")
# Sentences that advise what a caller of the library could pass, but a user of distill cannot.
ADVICE = re.compile(
    r"safe_mode|enable_unsafe|custom_object|register_keras_serializable|decorat|`?tags=|compile=|override this error|allow_pickle"
    r"|call_endpoint|Please ensure|custom_objects|pass a `|argument to load|saved_model_cli"
)
PLAIN = (ValueError, TypeError, RuntimeError, OSError)
MOST = 500


def reason(error: BaseException) -> str:
    """The cause in one line that ends with a full stop, without a stack, the model's config, and advice on foreign options.

    >>> reason(TypeError("Error when deserializing class 'D' using config={...}.\\n\\nException encountered: Unrecognized keyword 'groups'"))
    "Unrecognized keyword 'groups'."
    """
    text = str(error).rpartition(INNER)[2]
    lines = [line.strip() for line in text.splitlines()]
    text = " ".join(BEFORE.sub("", line) for line in lines if line and not PLACES.fullmatch(line))
    text = DUMPS.sub("", text) or text
    said = SENTENCE.split(text)
    text = " ".join([sentence for sentence in said if not ADVICE.search(sentence)] or said[:1])
    if len(text) > MOST:
        text = f"{text[: MOST // 2].rstrip()} ... {text[-MOST // 2 :].lstrip()}"
    name, module = type(error).__name__, type(error).__module__
    if not text or (type(error) not in PLAIN and module in ("builtins", "json.decoder", "zipfile", "zlib", "struct")):
        text = f"{name}: {text}" if text else name
    return text if text.endswith((".", "!", "?")) else f"{text}."
