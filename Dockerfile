# mgstudy with everything pinned, for Kubernetes, and for `ray up` when an image is faster than a set-up.
#
#   docker build -t REGISTRY/mgstudy:0.2.0 .
#   docker build -t REGISTRY/mgstudy:0.2.0-cpu --build-arg BASE=rayproject/ray:2.60.0-py311-cpu .
#
# The base carries Ray, Python and CUDA; constraints.txt pins everything that pip adds. `make check` lints this file, and
# deploy/image_steps.sh takes its steps without Docker. docs/installing.md says how a container finds a GPU.
ARG BASE=rayproject/ray:2.60.0-py311-gpu
FROM ${BASE}

WORKDIR /opt/mgstudy
COPY --chown=ray:users pyproject.toml constraints.txt README.md LICENSE ./
COPY --chown=ray:users mgstudy ./mgstudy
COPY --chown=ray:users pipelines/synthetic.yaml ./pipelines/
COPY --chown=ray:users search_spaces/quickstart.yaml ./search_spaces/
RUN pip install --no-cache-dir --constraint constraints.txt ".[postgresql,s3,gcs]"

# A study writes only below MGSTUDY_HOME, which is meant to be mounted or given as --home: for the base's user `ray`, by
# whose number Kubernetes knows that it is not root.
ENV MGSTUDY_HOME=/workspace
WORKDIR /home/ray
USER 1000
CMD ["mgstudy", "--help"]
