# One image for training and for the workers of `distill embed --engine dataflow`: this project, TensorFlow, and Beam's boot program as the
# entrypoint. docs/dataflow.md walks through the whole job.
#
#   docker build -t distill .                                       CPU
#   docker build -t distill --build-arg GPU=1 .                     with TensorFlow's CUDA libraries
#   docker build -t distill --build-arg BASE=IMAGE .                on an image of your own, with or without Python
#   docker build -t distill --build-arg PYTHON=3.12 .               where the launcher runs Python 3.12
#
#   docker run --rm -v "$PWD:/data" -w /data --entrypoint distill distill train --shards out --out runs/student
#   docker run --rm --gpus all -v "$PWD:/data" -w /data --entrypoint distill distill train --shards out --out runs/student       with GPU=1
#
# Beam requires the launcher's and the workers' Python (3.x) and Beam versions to be equal; tests/test_docker.py holds those below against
# constraints.txt. Building needs the two base images from a registry, so no test builds it.

ARG PYTHON=3.11
ARG BEAM=2.77.0
ARG BASE=python:${PYTHON}-slim

FROM apache/beam_python${PYTHON}_sdk:${BEAM} AS beam

FROM ${BASE}
ARG PYTHON
ARG GPU=

# A base without this Python (CUDA images bring none or another) gets it from its distribution. The link is for Beam, which calls `python`.
RUN if ! python -c "import sys; assert sys.version_info[:2] == tuple(map(int, '${PYTHON}'.split('.')))" 2> /dev/null; then \
      apt-get update && \
      DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates python${PYTHON} python${PYTHON}-venv && \
      rm -rf /var/lib/apt/lists/* && \
      python${PYTHON} -m venv /opt/distill && \
      ln -s /opt/distill/bin/python /usr/local/bin/python; \
    fi
ENV PATH=/opt/distill/bin:${PATH}

# Without this a worker starts in an empty environment of its own, and installs there what is here already.
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1 \
    TF_CPP_MIN_LOG_LEVEL=2

# What keep_memory (distill/runtime/process.py) sets, for Beam's workers, which nobody else calls it for.
ENV MALLOC_ARENA_MAX=1 \
    MALLOC_MMAP_THRESHOLD_=1073741824 \
    MALLOC_TRIM_THRESHOLD_=2147483647 \
    MALLOC_TOP_PAD_=67108864

WORKDIR /opt/src
# What distill needs is a layer of its own: it changes seldom and is large.
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
extras = ['dataflow'] + ['gpu'] * bool('${GPU}'); \
print(*p['dependencies'], *(line for name in extras for line in p['optional-dependencies'][name]), sep='\n')" > requirements.txt && \
    python -m pip install -c constraints.txt -r requirements.txt

COPY README.md LICENSE ./
COPY distill distill
COPY pipelines pipelines
COPY teachers teachers
RUN python -m pip install --no-deps . && distill --help > /dev/null

COPY --from=beam /opt/apache/beam /opt/apache/beam
WORKDIR /
ENTRYPOINT ["/opt/apache/beam/boot"]
