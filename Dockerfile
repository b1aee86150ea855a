# Tideo on the CPU. Build: docker build --build-arg PIP_EXTRA_INDEX_URL=URL -t tideo .
# Run: docker run --rm -v "$PWD":/data -v tideo-cache:/cache tideo ask video.mp4 "what is the girl doing?"
FROM python:3.11-slim

# PyTorch publishes wheels without CUDA, several gigabytes smaller, on an index of its own, which its install page names:
# --build-arg PIP_EXTRA_INDEX_URL=URL takes them. pip reads the variable.
ARG PIP_EXTRA_INDEX_URL=
ARG EXTRAS=openai,textvid

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

WORKDIR /opt/tideo
# PyTorch has a layer of its own, which a change of our sources leaves as it is.
COPY constraints.txt ./
RUN pip install -c constraints.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install -c constraints.txt ".[${EXTRAS}]"

# Any user may write to the cache, so that `docker run --user` works too.
RUN useradd --create-home tideo && mkdir -m 1777 /cache && mkdir -m 1777 /data
ENV HF_HOME=/cache/huggingface XDG_CACHE_HOME=/cache MPLCONFIGDIR=/cache/matplotlib
USER tideo
WORKDIR /data
ENTRYPOINT ["tideo"]
CMD ["--help"]
