# The BIDS App as an image: docker build -t bids_interp . (docs/containers.md has the whole story)
#
#   --build-arg DEVICE=cuda         PyTorch with CUDA instead of the CPU build
#   --build-arg TORCH_INDEX=URL     package index that holds PyTorch's CPU build, where pip's own
#                                   configuration (secret `pipconf`) names none
#   --build-arg TEMPLATEFLOW=DIR    folder of this build context with templates to bake in
#   --build-context wheels=DIR      folder of wheels that are preferred to the index
#   --secret id=pipconf,src=FILE    pip's configuration, not kept in the image
#   --secret id=cabundle,src=FILE   certificates of a proxy, not kept in the image
ARG BASE=debian:bookworm-slim

FROM scratch AS wheels

FROM ${BASE} AS builder
# hadolint ignore=DL3008
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/venv
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONWARNINGS=ignore

# PyTorch and the pinned packages come before the sources, so that a change of code builds quickly.
ARG DEVICE=cpu
ARG TORCH_INDEX=
ARG TORCH_VERSION=2.13.0
WORKDIR /src
COPY requirements/lock.txt requirements/
RUN --mount=type=secret,id=pipconf,target=/etc/pip.conf,required=false \
    --mount=type=secret,id=cabundle,target=/run/secrets/cabundle,required=false \
    --mount=type=bind,from=wheels,target=/wheels \
    case "${DEVICE}" in \
      cpu) torch="torch==${TORCH_VERSION}+cpu" ;; \
      cuda) torch="torch==${TORCH_VERSION}" ;; \
      *) echo "DEVICE is cpu or cuda, not ${DEVICE}" >&2; exit 1 ;; \
    esac; \
    /opt/venv/bin/pip install --find-links /wheels \
      ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} -c requirements/lock.txt "${torch}" \
    || { echo "No ${torch}: name an index that has it with --build-arg TORCH_INDEX=URL," \
         "or build with --build-arg DEVICE=cuda." >&2; exit 1; }
COPY setup.cfg pyproject.toml README.md LICENSE MANIFEST.in ./
RUN --mount=type=secret,id=pipconf,target=/etc/pip.conf,required=false \
    --mount=type=secret,id=cabundle,target=/run/secrets/cabundle,required=false \
    --mount=type=bind,from=wheels,target=/wheels \
    /opt/venv/bin/python -c "import configparser; c = configparser.ConfigParser(); \
c.read('setup.cfg'); print(c['options']['install_requires'])" > needed.txt \
    && /opt/venv/bin/pip install --find-links /wheels -c requirements/lock.txt \
      -r needed.txt 'setuptools>=77' wheel
COPY bids_interp bids_interp
COPY workflows workflows
COPY boilerplate boilerplate
RUN /opt/venv/bin/pip install --no-deps --no-index --no-build-isolation . \
    && /opt/venv/bin/pip check

# Templates of the build context, if any; the embedded one and the demonstration model come with
# the packages.
ARG TEMPLATEFLOW=
RUN --mount=type=bind,target=/context \
    mkdir -p /opt/templateflow \
    && if [ -n "${TEMPLATEFLOW}" ]; then cp -r "/context/${TEMPLATEFLOW}"/tpl-* /opt/templateflow/; fi \
    && chmod -R a+rX /opt/templateflow

FROM ${BASE}
# hadolint ignore=DL3008
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends python3 tini \
    && rm -rf /var/lib/apt/lists/* \
    && mkdir -p /bids /out /work
COPY --from=builder /opt /opt
COPY bids_interp/hpc/templates/entry.sh /usr/local/bin/bids_interp
RUN chmod 755 /usr/local/bin/bids_interp \
    && ln -s bids_interp /usr/local/bin/bids_interp_tools

ARG VERSION=unknown
ARG REVISION=unknown
ARG DEVICE=cpu
LABEL org.opencontainers.image.title="bids_interp" \
      org.opencontainers.image.description="BIDS App: what has a classifier of brain MRI learned? Research use only." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.documentation="docs/containers.md" \
      org.bids_interp.device="${DEVICE}"
# The caches of libraries go to the work directory (BIDS_INTERP_CONTAINER_TAG says that this is a
# container): HOME may be missing, read-only, or the caller's own under Apptainer.
ENV PATH=/usr/local/bin:/opt/venv/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONNOUSERSITE=1 \
    PYTHONSAFEPATH=1 \
    TEMPLATEFLOW_HOME=/opt/templateflow \
    TEMPLATEFLOW_AUTOUPDATE=0 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    BIDS_INTERP_CONTAINER_TAG=bids_interp:${VERSION}
WORKDIR /
ENTRYPOINT ["/usr/bin/tini", "-s", "--", "bids_interp"]
