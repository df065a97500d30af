# worldmodel in a container.
#
#   docker build -t worldmodel .                             # CPU
#   docker build -t worldmodel:cuda --build-arg TORCH=cu130 .  # CUDA 13.0
#   docker run --rm -v "$PWD/runs:/work/runs" worldmodel demo out=runs/demo
#   docker run --rm --gpus all -p 8000:8000 -v "$PWD:/work" worldmodel:cuda \
#       serve host=0.0.0.0 token_file=token
ARG PYTHON=3.11
FROM python:${PYTHON}-slim-bookworm

# The build of PyTorch: cpu, or cu126, cu130, ... for CUDA. Drivers come from the host.
ARG TORCH=cpu
# Extras of pyproject.toml; drive robot=franka also needs robot.
ARG EXTRAS=serve,lerobot,hf

# EGL renders MuJoCo without a screen, by Mesa on the processor or by the host's NVIDIA driver.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libegl1 libgl1-mesa-dri libgles2 \
    && rm -rf /var/lib/apt/lists/*
ENV MUJOCO_GL=egl \
    NVIDIA_DRIVER_CAPABILITIES=compute,graphics,utility,video \
    HF_HOME=/work/cache/huggingface \
    WORLDMODEL_CACHE=/work/cache/worldmodel \
    PIP_NO_CACHE_DIR=1

# PyTorch is a layer of its own: it is the largest part and changes least.
WORKDIR /source
COPY constraints.txt ./
# hadolint ignore=DL3013
RUN pip install --constraint constraints.txt torch \
    --index-url "https://download.pytorch.org/whl/${TORCH}"

COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE ./
COPY configs configs
COPY worldmodel worldmodel
COPY planning planning
COPY robot robot
COPY envs envs
RUN pip install --constraint constraints.txt ".[${EXTRAS}]" && worldmodel --version

# Results and caches are written below /work; mount a folder there.
RUN useradd --create-home --uid 1000 worldmodel \
    && mkdir -p /work && chown worldmodel /work && rm -rf /source
USER 1000
WORKDIR /work
ENTRYPOINT ["worldmodel"]
CMD ["doctor"]
