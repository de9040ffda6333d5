# docker build --target cpu  -t filmstrip .
# docker build --target cuda -t filmstrip:cuda .       docker run --gpus all …
#
# docker run --rm -v "$PWD:/work" filmstrip build voxceleb --source VoxCeleb2 --output data/vox
# docker run --rm -v "$PWD:/work" --entrypoint accelerate filmstrip launch --quiet --module train --stage pretrain …
#
# It is linted, and its commands are those of a plain installation; no image has been built of it yet.

FROM python:3.11-slim-bookworm AS base
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONUNBUFFERED=1
# What is read may come from anybody: see SECURITY.md.
RUN useradd --create-home --uid 1000 filmstrip && install --directory --owner filmstrip /work
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE train.py filmstrip.py ./
COPY loaders loaders
COPY sharding sharding
COPY models models

# PyPI's torch and DALI (cuda13) bring CUDA's libraries with them: only the driver is the host's.
FROM base AS cuda
RUN pip install -c constraints.txt '.[cuda13,faces,planes,plots,s3]'
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility,video
USER 1000
WORKDIR /work
# CenterFace, by its SHA-256: a container that is thrown away would fetch it in each.
RUN python -m sharding.networks centerface
ENTRYPOINT ["filmstrip"]
CMD ["--help"]

# Without DALI, which a CPU needs for FLAC alone. A torch without CUDA is on PyTorch's own index, as 2.13.0+cpu, which pip holds for newer than 2.13.0.
FROM base AS cpu
RUN pip install -c constraints.txt --extra-index-url https://download.pytorch.org/whl/cpu torch \
    && pip install -c constraints.txt '.[faces,planes,plots,s3]'
USER 1000
WORKDIR /work
# CenterFace, by its SHA-256: a container that is thrown away would fetch it in each.
RUN python -m sharding.networks centerface
ENTRYPOINT ["filmstrip"]
CMD ["--help"]
