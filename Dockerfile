# mgstudy with everything pinned, for Kubernetes, and for `ray up` when an image is faster than a set-up.
#
#   docker build -t REGISTRY/mgstudy:0.1.0 .
#   docker build -t REGISTRY/mgstudy:0.1.0-cpu --build-arg BASE=rayproject/ray:2.60.0-py311-cpu .
#
# The base carries Ray, Python and CUDA; constraints.txt pins everything that pip adds.
ARG BASE=rayproject/ray:2.60.0-py311-gpu
FROM ${BASE}

WORKDIR /opt/mgstudy
COPY --chown=ray:users pyproject.toml constraints.txt README.md LICENSE ./
COPY --chown=ray:users mgstudy ./mgstudy
RUN pip install --no-cache-dir --constraint constraints.txt ".[postgresql,s3,gcs]"

# A study writes only below MGSTUDY_HOME, which is meant to be mounted or given as --home.
ENV MGSTUDY_HOME=/workspace
WORKDIR /home/ray
USER ray
CMD ["mgstudy", "--help"]
