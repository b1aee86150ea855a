"""Units of work through the worker pools of a Ray cluster: a stream that Ray Data bounds and scales.

units ─► decoders, a process each ─► encoders, which load their model once ─► results, to this process

Ray starts workers where there is work and room, stops feeding a stage whose successor is behind, keeps what waits in
its object store, up to that store's size, and gives the work of a worker that was killed to another.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tideo.child import Child
from tideo.parallel import Failure, attempted
from tideo.registry import require
from tideo.tally import Counts, Tally
from tideo.types import UserError

log = logging.getLogger(__name__)
BLOCKS = 64  # input blocks for a stream, at least; a large stream has blocks of BATCHES batches
BATCHES = 8
# Decoded units → their results, in the same order. A Failure among them stays where it is.
Encode = Callable[[Sequence[Any]], Sequence[Any]]


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A Ray cluster by its address, or `local` for one on this machine, and how much of it the pools may take.

    `decode_cpus`: the most decoders at once, a CPU each; None: as many as there are CPUs. `encode_gpus`: the GPUs of
    each encoder, 0.5 if two share one, 0 for the CPU; None: 1 where the cluster has GPUs.
    """

    address: str
    decode_cpus: int | None = None
    encode_gpus: float | None = None

    def __post_init__(self) -> None:
        if self.decode_cpus is not None and self.decode_cpus < 1:
            raise UserError(f"decode_cpus must be at least 1, not {self.decode_cpus}")
        gpus = self.encode_gpus
        if gpus is not None and not (0 <= gpus <= 1 or (gpus > 1 and gpus == int(gpus))):
            raise UserError(
                f"encode_gpus={gpus:g}: expected the GPUs of each encoder, such as 0.5 or 1, 0 for CPUs"
            )

    def check(self) -> None:
        """Raises UserError if Ray is not installed, or nothing listens at HOST:PORT; Ray would try for minutes."""
        require("ray")
        require("pandas")
        require("pyarrow")
        host, colon, port = self.address.removeprefix("ray://").rpartition(":")
        if not colon or not port.isdecimal():
            return
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise UserError(
                f"no Ray cluster answers at {self.address} ({error}): start it, or give `local`"
            ) from error


@contextmanager
def connected(cluster: Cluster | None) -> Iterator[Any]:
    """The module `ray`, connected to the cluster for as long as the outermost block lasts; nothing without one."""
    if cluster is None:
        yield None
        return
    cluster.check()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Of each pool it would say that its workers' arguments may be lost; this process holds them as long as they live.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # A worker that holds no GPU sees none: with `encode_gpus=0`, encoders compute on CPUs.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    ray: Any = require("ray")
    data: Any = require("ray.data")
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # an error is raised
    started = not ray.is_initialized()
    if started:
        _start(ray, cluster.address)
    context = data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.raise_original_map_exception = True
    context.execution_no_progress_timeout_s = -1  # a child's own limit ends what hangs
    try:
        yield ray
    finally:
        if started:
            ray.shutdown()


def _start(ray: Any, address: str) -> None:
    """Connect to the cluster, or start one. Raises UserError where that fails."""
    try:
        with _without_stderr():  # where Ray says that it has read the level
            ray.init(
                address=address,
                num_cpus=max(2, os.cpu_count() or 1)
                if address == "local"
                else None,  # a decoder and an encoder
                log_to_driver=False,
                include_dashboard=False,
                logging_level=logging.ERROR,
            )
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"no Ray cluster at {address} ({reason}): give HOST:PORT, auto or local") from error


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Let nothing be written to file descriptor 2, as C++ does; an exception says why something failed."""
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def mapped(units: Mapping[str, Any], work: Callable[[Any], Any], *, cluster: Cluster) -> dict[str, Any]:
    """`work` of each unit, by key, in tasks of the cluster; a Failure for one that raised three times."""
    with connected(cluster) as ray:
        source = _source(ray, units, size=64)
        return dict(_results(source.map_batches(_Mapping(work), batch_size=64, batch_format="pyarrow")))


def streamed(
    units: Mapping[str, Any],
    *,
    decode: Callable[[Any], Any] | None,
    encoder: Callable[[], Encode],
    size: int,
    cluster: Cluster,
    tally: Tally,
) -> Iterator[tuple[str, Any]]:
    """The key and the result of each unit, each once, in the order in which they come.

    `decode` turns a unit into what an encoder takes, in a process of its own; what fails three times, or ends its
    process three times, comes as a Failure. None: units need no decoding. `encoder` is called once in each worker of
    the second pool, and returns a function of up to `size` decoded units. All of them must be picklable.
    """
    with connected(cluster) as ray:
        there, gpus = ray.cluster_resources().get("GPU", 0.0), cluster.encode_gpus
        if gpus is None:
            gpus = 1.0 if there else 0.0
        if gpus > there:
            message = f"encode_gpus={gpus:g}: the cluster {cluster.address} has {there:g} GPUs"
            if cluster.address == "local":
                raise UserError(f"{message}; set it to 0 for the CPU")
            log.warning("%s now; encoders wait until it has grown", message)
        counts = ray.remote(num_cpus=0, max_restarts=-1)(Tally).remote()
        pool = ray.data.ActorPoolStrategy
        data = _source(ray, units, size=size)
        if decode is not None:
            data = data.map_batches(
                _Decoder, fn_constructor_args=[decode, counts], batch_size=size, batch_format="pyarrow",
                compute=pool(min_size=1, max_size=cluster.decode_cpus), num_cpus=1,
            )  # fmt: skip
        data = data.map_batches(
            _Encoder, fn_constructor_args=[encoder, counts], batch_size=size, batch_format="pyarrow",
            compute=pool(min_size=1, max_concurrent_calls_per_actor=2),  # the next batch is read during the first
            num_cpus=1, num_gpus=gpus,
        )  # fmt: skip

        def of_workers() -> Counts:
            try:
                there: Counts = ray.get(counts.counts.remote(), timeout=5)
            except ray.exceptions.RayError:  # the line does without them
                return {}
            return there

        try:
            with tally.with_counts_of(of_workers):
                yield from _results(data)
        except ray.exceptions.RayError as error:
            raise _of_user(error) or error from None


def _of_user(error: BaseException | None) -> UserError | None:
    """The UserError that a worker raised, without Ray's wrappings."""
    while error is not None:
        if type(error) is UserError:
            return UserError(str(error).partition("\n")[0])  # Ray adds lines about its own settings
        error = getattr(error, "cause", None) or error.__cause__
    return None


# --- blocks: the key of each row and its pickled data ---------------------------------------------


def _source(ray: Any, units: Mapping[str, Any], *, size: int) -> Any:
    keys = list(units)
    rows = min(BATCHES * size, -(-len(keys) // BLOCKS))
    parts = (keys[start : start + rows] for start in range(0, len(keys), rows))
    return ray.data.from_arrow([_block(part, [pickle.dumps(units[key]) for key in part]) for part in parts])


def _block(keys: Sequence[str], data: Sequence[bytes]) -> Any:
    arrow: Any = require("pyarrow")
    # Bytes, since a file's name need not be text.
    names = [key.encode(errors="surrogatepass") for key in keys]
    return arrow.table(
        {"key": arrow.array(names, arrow.binary()), "data": arrow.array(data, arrow.large_binary())}
    )


def _rows(block: Any) -> Iterator[tuple[str, Any]]:
    for key, data in zip(block["key"], block["data"], strict=True):
        yield key.as_py().decode(errors="surrogatepass"), pickle.loads(data.as_buffer())


def _results(data: Any) -> Iterator[tuple[str, Any]]:
    for block in data.iter_batches(batch_size=None, batch_format="pyarrow"):
        yield from _rows(block)


# --- in the workers --------------------------------------------------------------------------------


class _Mapping:
    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.work = work

    def __call__(self, block: Any) -> Any:
        rows = dict(_rows(block))
        return _block(list(rows), [pickle.dumps(attempted(self.work, unit)) for unit in rows.values()])


class _Decoder:
    def __init__(self, decode: Callable[[Any], Any], counts: Any) -> None:
        self.child, self.count = Child(decode), _Count(counts, "decode")

    def __call__(self, block: Any) -> Iterator[Any]:
        for key, unit in _rows(block):
            result = attempted(self.child, unit)
            data = pickle.dumps(result) if isinstance(result, Failure) else result
            self.count(1)
            yield _block([key], [data])


class _Encoder:
    def __init__(self, encoder: Callable[[], Encode], counts: Any) -> None:
        self.encoder, self.count = encoder, _Count(counts, "encode")

    @cached_property
    def encode(self) -> Encode:
        """Loaded in the first call: of an error in a constructor Ray says only that the worker died."""
        return self.encoder()

    def __call__(self, block: Any) -> Any:
        rows = dict(_rows(block))
        results = self.encode(list(rows.values()))
        self.count(len(rows))
        return _block(list(rows), [pickle.dumps(result) for result in results])


class _Count:
    """Reports to the tally of a stream, at most twice a second."""

    def __init__(self, counts: Any, stage: str) -> None:
        self.counts, self.stage, self.worker = counts, stage, uuid.uuid4().hex
        self.num, self.reported_s = 0, 0.0

    def __call__(self, num: int) -> None:
        self.num += num
        if (now_s := time.monotonic()) - self.reported_s > 0.5:
            self.counts.add.remote(self.stage, self.num, self.worker)
            self.num, self.reported_s = 0, now_s
