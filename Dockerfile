# worldmodel in a container.
#
#   docker build -t worldmodel .    # CPU and CUDA
#   docker run --rm -v "$PWD/runs:/data/runs" worldmodel demo out=runs/demo
#   docker run --rm --gpus all -p 8000:8000 -v "$PWD:/data" worldmodel \
#       serve host=0.0.0.0 token_file=token
ARG PYTHON=3.11
FROM python:${PYTHON}-slim-bookworm

# Package index with another build of PyTorch, such as the smaller one without CUDA. Empty is the
# default index, whose build serves CPU and CUDA; CUDA's driver comes from the host.
ARG TORCH_INDEX=
# Extras of pyproject.toml; drive robot=franka also needs robot.
ARG EXTRAS=serve,lerobot,hf

# EGL renders MuJoCo without a screen, by Mesa on the processor or by the host's NVIDIA driver.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libegl1 libgl1-mesa-dri libgles2 \
    && rm -rf /var/lib/apt/lists/*
ENV MUJOCO_GL=egl \
    NVIDIA_DRIVER_CAPABILITIES=compute,graphics,utility,video \
    HF_HOME=/data/cache/huggingface \
    WORLDMODEL_CACHE=/data/cache/worldmodel \
    PIP_NO_CACHE_DIR=1

# PyTorch is a layer of its own: it is the largest part and changes least.
WORKDIR /source
COPY constraints.txt ./
# hadolint ignore=DL3013
RUN pip install --constraint constraints.txt torch ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"}

COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE ./
COPY configs configs
COPY worldmodel worldmodel
COPY planning planning
COPY robot robot
COPY envs envs
RUN pip install --constraint constraints.txt ".[${EXTRAS}]" && worldmodel --version

# Results and caches are written below /data; mount a folder there.
RUN useradd --create-home --uid 1000 worldmodel \
    && mkdir -p /data && chown worldmodel /data && rm -rf /source
USER 1000
WORKDIR /data
ENTRYPOINT ["worldmodel"]
CMD ["doctor"]
